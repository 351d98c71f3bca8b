import { join } from "node:path";
import fc from "fast-check";
import { Pool } from "undici";
import { expect, test } from "vitest";
import { startChild } from "../../bench/parts/child.ts";
import { newSigningKey, signDelivery } from "../../src/gitlab/webhook-signature.ts";
import { aJobHook, aPipelineHook, hookHeaders } from "../builders/hook.ts";
import { hookMutations, mutate } from "../builders/hook-mutations.ts";
import { temporaryDirectory } from "../builders/temporary-directory.ts";
import type { PublicServerProcess } from "../programs/public-server-process.ts";

const CASES = 6_000;
const SENDERS = 8;
/** No more cases are begun after that: a computer that others use may be slow. */
const BEGIN_WITHIN_MS = 40_000;
const LEAST_CASES = 1_000;
const SEED = Number(process.env["FIRERUNNER_SEED"] ?? 4_711);
const key = newSigningKey();
const program = join(import.meta.dirname, "../programs/public-server-process.ts");

type Outcome = "authentic" | "forged";

/** One mutated webhook, of which every eighth is changed after it was signed. */
function requestOf(mutations: Parameters<typeof mutate>[2], index: number) {
  const real = mutations.isPipeline ? aPipelineHook() : aJobHook();
  const event = mutations.isPipeline ? "Pipeline Hook" : "Job Hook";
  const { headers, body = Buffer.alloc(0) } = mutate(hookHeaders(event, `d${index}`), real, mutations);
  const id = headers["webhook-id"] ?? "";
  const timestamp = Math.floor(Date.now() / 1_000);
  const isForged = index % 8 === 0;
  const signature = signDelivery(key, { id, timestamp, body: isForged ? `${body}.` : body });
  const outcome: Outcome = isForged || !/^[\x21-\x7e]{1,256}$/.test(id) ? "forged" : "authentic";
  const proof = { "webhook-timestamp": String(timestamp), "webhook-signature": signature };
  return { outcome, body, headers: { ...headers, ...proof } };
}

/** What no client can send over HTTP at all is left to the test of the receiver alone. */
function canBeSent(headers: Record<string, string>): boolean {
  return Object.values(headers).every((value) => /^[\t\x20-\x7e]*$/.test(value) && value.trim() === value);
}

test(`${CASES} webhooks, each changed at random (seed ${SEED}), pass the real server over kept connections without a 5xx`, {
  timeout: 120_000,
}, async () => {
  await using directory = await temporaryDirectory();
  const server = startChild<PublicServerProcess>(program);
  await using _ = { [Symbol.asyncDispose]: () => server.stop() };
  const [address = ""] = await server.call("open", {
    directory: directory.path,
    signingKey: key.reveal(),
    token: "a long secret token",
    settings: { listen: ["http://127.0.0.1:0"] },
  });
  const pool = new Pool(address, { connections: SENDERS });
  await using __ = { [Symbol.asyncDispose]: () => pool.destroy() };
  const cases = fc.sample(hookMutations, { numRuns: CASES, seed: SEED });
  const wrong: unknown[] = [];
  const sent: Record<Outcome, number> = { authentic: 0, forged: 0 };
  let next = 0;

  async function sendAll(): Promise<void> {
    const until = performance.now() + BEGIN_WITHIN_MS;
    while (next < cases.length && performance.now() < until) {
      const index = next++;
      const { outcome, headers, body } = requestOf(cases[index]!, index);
      if (!canBeSent(headers)) continue;
      const answer = await pool.request({ method: "POST", path: "/webhook", headers, body });
      const text = await answer.body.text();
      sent[outcome]++;
      const isRight =
        outcome === "authentic" ? answer.statusCode === 200 : [401, 429].includes(answer.statusCode);
      if (!isRight) wrong.push({ index, outcome, status: answer.statusCode, text });
    }
  }
  await Promise.all(Array.from({ length: SENDERS }, sendAll));
  const report = await server.call("report", undefined as never);

  expect(wrong).toEqual([]);
  expect(sent.authentic).toBeGreaterThan(LEAST_CASES);
  expect(sent.forged).toBeGreaterThan(LEAST_CASES / 20);
  expect(report.counts).toMatchObject({ accepted: sent.authentic, failed: 0, withoutBody: 0 });
  // A fuzz that never gets past the first check shows nothing.
  expect(report.stored.length).toBeGreaterThan(sent.authentic / 10);
  expect(report.unreadable).toBeGreaterThan(sent.authentic / 10);
  expect(report.errors).toEqual([]);
  const body = JSON.stringify(aJobHook({ jobId: 12 }));
  const proof = { "x-gitlab-token": "a long secret token" };
  const last = await pool.request({
    method: "POST",
    path: "/webhook",
    headers: { ...hookHeaders("Job Hook", "last"), ...proof },
    body,
  });
  expect(await last.body.json()).toEqual({ message: "taken: job 12 of project 7 pending" });
});
