import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import fc from "fast-check";
import { expect, test } from "vitest";
import { silentLog } from "../src/base/log.ts";
import { createManualClock } from "../src/base/manual-clock.ts";
import { createWebhookReceiver, type ReceivedHook } from "../src/discovery/webhook-receiver.ts";
import { aJobHook, aPipelineHook, hookHeaders } from "./builders/hook.ts";
import { hookMutations, mutate } from "./builders/hook-mutations.ts";

const CASES = 50_000;
const SEED = Number(process.env["FIRERUNNER_SEED"] ?? 4_711);
const MOST_GROWTH_BYTES = 64 * 1024 ** 2;

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

/** A receiver whose store forgets everything at once, so that whatever grows is the receiver's own. */
function aReceiver() {
  const news: ReceivedHook[] = [];
  const kept: unknown[] = [];
  const receiver = createWebhookReceiver({
    verifier: { screen: () => "proven" },
    store: {
      keepDeliveries: async (rows) => {
        kept.push(...rows);
        return rows.map(() => true);
      },
      job: async () => undefined,
    },
    clock: createManualClock(),
    log: silentLog,
    onHook: (each) => news.push(each),
    onJobEnded: () => {},
  });
  return { receiver, news, kept };
}

function isId(value: unknown): boolean {
  return value === null || (Number.isSafeInteger(value) && (value as number) > 0);
}

/** What may reach the store and the rest of the program. */
function expectClean(news: readonly ReceivedHook[], kept: readonly unknown[]): void {
  for (const { projectId, jobId, status } of news) {
    if (!isId(projectId) || !isId(jobId) || (status?.length ?? 0) > 32) throw new Error(JSON.stringify(news));
  }
  for (const row of kept as { key: string; event: string }[]) {
    if (row.key.length > 200 || row.event.length > 64) throw new Error(JSON.stringify(row));
  }
}

test(`${CASES} webhooks, each changed at random (seed ${SEED}), are answered without a crash and within memory`, {
  timeout: 180_000,
}, async () => {
  const { receiver, news, kept } = aReceiver();
  let ran = 0;
  let heapBytes = 0;
  const answers = new Map<string, number>();
  await fc.assert(
    fc.asyncProperty(hookMutations, async (mutations) => {
      const real = mutations.isPipeline ? aPipelineHook() : aJobHook();
      const headers = hookHeaders(mutations.isPipeline ? "Pipeline Hook" : "Job Hook", `d${ran}`);
      const request = mutate(headers, real, mutations);
      const answer = await receiver.take(request);
      const kind = answer.split(/[:,]| is /)[0] ?? "";
      answers.set(kind, (answers.get(kind) ?? 0) + 1);
      expectClean(news.splice(0), kept.splice(0));
      if (++ran === CASES / 5) {
        collectGarbage();
        heapBytes = process.memoryUsage().heapUsed;
      }
    }),
    { numRuns: CASES, seed: SEED },
  );
  collectGarbage();

  expect(ran).toBeGreaterThanOrEqual(CASES);
  // A fuzz that never gets past the first check shows nothing.
  expect(answers.get("taken")).toBeGreaterThan(CASES / 10);
  expect(receiver.status().unreadable).toBeGreaterThan(CASES / 10);
  expect(process.memoryUsage().heapUsed - heapBytes).toBeLessThan(MOST_GROWTH_BYTES);
});
