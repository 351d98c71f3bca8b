import fc from "fast-check";
import { expect, test } from "vitest";
import { silentLog } from "../src/base/log.ts";
import { createManualClock, type ManualClock } from "../src/base/manual-clock.ts";
import { WebhookConfig } from "../src/discovery/config.ts";
import { createWatcher, type Watcher } from "../src/discovery/watcher.ts";
import { createWebhookReceiver } from "../src/discovery/webhook-receiver.ts";
import type { Store } from "../src/store/store.ts";
import { aJobHook, aPipelineHook, hookHeaders } from "./builders/hook.ts";
import { aClaim } from "./builders/job.ts";
import { aRestGitLab, type RestGitLab } from "./builders/rest-gitlab.ts";
import { aStore } from "./builders/store.ts";
import { tagRules } from "./builders/tag-rules.ts";

const MINUTE = 60_000;
const POLL_MS = MINUTE;
/** A poll, its turn beside others, and the claim. */
const LONGEST_WAIT_MS = 2 * POLL_MS + 5_000;

/** One job, what becomes of it, and what GitLab's webhooks make of it. Times in ms from the beginning. */
const story = fc.record({
  at: fc.integer({ min: 0, max: 10 * MINUTE }),
  projectId: fc.constantFrom(7, 8),
  tags: fc.constantFrom(["firecracker-1cpu-1gb"], ["firecracker-2cpu-4gb", "linux"], ["docker"]),
  /** Somebody takes it, or cancels it, so long after. */
  goneAfter: fc.option(fc.integer({ min: 0, max: 3 * MINUTE }), { nil: undefined }),
  /** Each delivery of its hooks: how late it is (up to an hour), and how often it comes. None: all are lost. */
  deliveries: fc.array(
    fc.record({
      status: fc.constantFrom("created", "pending", "running", "success", "failed", "canceled"),
      isPipeline: fc.boolean(),
      late: fc.oneof(fc.integer({ min: 0, max: 2_000 }), fc.integer({ min: 0, max: 60 * MINUTE })),
      copies: fc.integer({ min: 1, max: 3 }),
    }),
    { maxLength: 4 },
  ),
});
type Story = typeof story extends fc.Arbitrary<infer Value> ? Value : never;

/** A daemon as far as finding and claiming goes; several follow each other on one store. */
function aDaemon(store: Store, gitlab: RestGitLab, clock: ManualClock, claimed: number[]) {
  const { poll, projects } = WebhookConfig.parse({ group: "group", apiToken: "glpat-x" });
  const watcher: Watcher = createWatcher({
    ...{ store, rest: gitlab.rest, clock, log: silentLog, random: () => 0.5, expectsHooks: true },
    rules: () => tagRules(),
    scope: async () => ({ kind: "group", id: 3, path: "group" }),
    config: { poll, projects },
  });
  const receiver = createWebhookReceiver({
    ...{ verifier: { screen: () => "proven" }, store, clock, log: silentLog },
    onHook: watcher.noteHook,
    onJobEnded: () => {},
  });
  let isOn = true;
  let offeredClaimed = 0;
  watcher.demand.onChange(() => {
    offeredClaimed += watcher.demand.pending().filter(({ id }) => claimed.includes(id)).length;
    for (const { id } of watcher.demand.pending()) void claim(id);
  });

  /** GitLab gives each job once, whoever asks, and only while it waits. */
  async function claim(id: number): Promise<void> {
    await clock.sleep(20);
    const job = gitlab.jobs.get(id);
    if (!isOn || job?.status !== "pending") return;
    job.status = "running";
    claimed.push(id);
    await store.claim(aClaim({ jobId: id }));
  }

  watcher.start();
  return {
    watcher,
    take: receiver.take,
    offeredClaimed: () => offeredClaimed,
    async stop() {
      isOn = false;
      await watcher.stop();
    },
  };
}

function isOurs(told: Story): boolean {
  return told.tags.some((tag) => tag.startsWith("firecracker"));
}

async function live(stories: readonly Story[], restartAt: number): Promise<void> {
  const clock = createManualClock();
  const beganAt = clock.now();
  await using testStore = await aStore({ clock });
  const { store } = testStore;
  const gitlab = aRestGitLab(clock);
  gitlab.addProject(8, "group/other");
  const claimed: number[] = [];
  const claimedAt = new Map<number, number>();
  store.onEvent(({ kind, jobId, at }) => {
    if (kind === "job:claimed" && jobId !== null) claimedAt.set(jobId, at - beganAt);
  });
  let daemon = aDaemon(store, gitlab, clock, claimed);
  let offeredClaimed = 0;
  const answers: string[] = [];

  const happenings: { at: number; what: () => unknown }[] = [
    {
      at: restartAt,
      what: async () => {
        await daemon.stop();
        offeredClaimed += daemon.offeredClaimed();
        daemon = aDaemon(store, gitlab, clock, claimed);
      },
    },
  ];
  for (const [index, told] of stories.entries()) {
    const id = index + 1;
    const { at, projectId, tags, goneAfter } = told;
    happenings.push({ at, what: () => gitlab.addJob({ id, projectId, tags }) });
    if (goneAfter !== undefined) happenings.push({ at: at + goneAfter, what: () => leave(gitlab, id) });
    for (const [number, delivery] of told.deliveries.entries()) {
      const { status, isPipeline, late, copies } = delivery;
      const body = isPipeline
        ? aPipelineHook({ projectId, status })
        : aJobHook({ jobId: id, projectId, status });
      const headers = hookHeaders(isPipeline ? "Pipeline Hook" : "Job Hook", `${id}-${number}`);
      const take = async () =>
        answers.push(await daemon.take({ headers, body: Buffer.from(JSON.stringify(body)) }));
      for (let copy = 0; copy < copies; copy++) happenings.push({ at: at + late + copy * 700, what: take });
    }
  }

  for (const { at, what } of happenings.toSorted((a, b) => a.at - b.at)) {
    await clock.advance(Math.max(0, beganAt + at - clock.now()));
    await what();
  }
  await clock.advance(LONGEST_WAIT_MS);
  offeredClaimed += daemon.offeredClaimed();

  expect(new Set(claimed).size).toBe(claimed.length);
  expect(offeredClaimed).toBe(0);
  for (const [index, told] of stories.entries()) {
    const waited = (claimedAt.get(index + 1) ?? Number.POSITIVE_INFINITY) - told.at;
    if (!isOurs(told)) expect(waited).toBe(Number.POSITIVE_INFINITY);
    else if (told.goneAfter === undefined) expect(waited).toBeLessThan(LONGEST_WAIT_MS);
    else if (waited < Number.POSITIVE_INFINITY) expect(waited).toBeLessThanOrEqual(told.goneAfter);
  }
  const distinct = stories.reduce((sum, { deliveries }) => sum + deliveries.length, 0);
  expect(answers.filter((answer) => answer === "known already")).toHaveLength(answers.length - distinct);
  expect(daemon.watcher.demand.pending()).toEqual([]);
  const stopped = daemon.stop();
  await clock.advance(1_000);
  await stopped;
}

/** Taken by another runner, or canceled; nothing happens when it is ours already. */
function leave(gitlab: RestGitLab, id: number): void {
  const job = gitlab.jobs.get(id);
  if (job?.status === "pending") job.status = "canceled";
}

test("hooks lost, doubled, out of order and late: each job is claimed once, or not at all when it was gone before", {
  timeout: 120_000,
}, async () => {
  const stories = fc.array(story, { minLength: 1, maxLength: 6 });
  const restartAt = fc.integer({ min: 0, max: 20 * MINUTE });
  await fc.assert(fc.asyncProperty(stories, restartAt, live), { numRuns: 40 });
});
