import { expect, test } from "vitest";
import { aPool } from "../../test/builders/pool.ts";
import { createRecordingLog } from "../../test/builders/recording-log.ts";
import { createManualClock } from "../base/manual-clock.ts";
import { Secret } from "../base/secret.ts";
import type { Pool } from "../domain/pool.ts";
import { gitLabErrorOf, tokenRefusal } from "../gitlab/errors.ts";
import { answer } from "../operations/doctor/findings.ts";
import { createPoolTokens } from "./pool-tokens.ts";

const DOING = "verifying the runner token";
const forbidden = tokenRefusal(403, DOING, "it") ?? new Error("no refusal");

/** GitLab, which answers to each token with an error or knows it. */
function open(answers: Record<string, Error | undefined>, pools = new Map([["small", aPool()]])) {
  const clock = createManualClock();
  const { log, lines } = createRecordingLog();
  const asked: string[] = [];
  const tokens = createPoolTokens({
    api: {
      async verify(token) {
        asked.push(token.reveal());
        const error = answers[token.reveal()];
        if (error) throw error;
        return { id: 7, tokenExpiresAt: null };
      },
    },
    pools: () => pools,
    runnerInfo: async () => undefined,
    clock,
    log,
  });
  return { tokens, clock, asked, lines, pools, settle: () => clock.advance(0) };
}

const named = (token: string, more: Partial<Pool> = {}) => aPool({ runnerToken: new Secret(token), ...more });

test("a token that GitLab refuses is told in doctor's words, until a new one is right", async () => {
  const { tokens, pools, settle } = open({ "glrt-bad": forbidden }, new Map([["small", named("glrt-bad")]]));
  tokens.verifyNew();
  await settle();
  const told = tokens.problem("small");
  pools.set("small", named("glrt-good"));
  tokens.verifyNew();
  await settle();

  const doctor = await answer(() => Promise.reject(forbidden))(new AbortController().signal);
  expect(told).toEqual({ problem: doctor.message, hint: doctor.hint });
  expect(told?.problem).toBe("verifying the runner token: GitLab does not know it (403)");
  expect(told?.hint).toContain("put its token (glrt-…) into the pool");
  expect(tokens.problem("small")).toBeUndefined();
});

test("GitLab that is away is asked again, told once in the log, and forgotten when it answers", async () => {
  const token = aPool().runnerToken.reveal();
  const answers: Record<string, Error | undefined> = { [token]: gitLabErrorOf(503, undefined, DOING) };
  const { tokens, clock, asked, lines } = open(answers);
  tokens.verifyNew();
  await clock.advance(25_000);
  const away = [asked.length, tokens.problem("small")?.problem];
  delete answers[token];
  await clock.advance(10_000);

  expect(away).toEqual([3, expect.stringContaining("GitLab answers 503")]);
  expect(tokens.problem("small")).toBeUndefined();
  expect(lines.filter((line) => line.includes("could not be verified"))).toHaveLength(1);
  await clock.advance(600_000);
  expect(asked).toHaveLength(4);
});

test("a token that was good is looked at again when GitLab refuses it", async () => {
  const answers: Record<string, Error | undefined> = {};
  const { tokens, asked, settle } = open(answers);
  tokens.verifyNew();
  await settle();
  tokens.verifyNew();
  await settle();
  answers[aPool().runnerToken.reveal()] = forbidden;
  for (const pool of ["small", "small", "tags:of-its-own"]) tokens.requestRecheck(pool);
  await settle();

  expect(asked).toHaveLength(2);
  expect(tokens.problem("small")?.problem).toContain("(403)");
});

test("a pool that is gone is not asked for any more, and none after the end", async () => {
  const { tokens, clock, asked, pools } = open(
    { "glrt-bad": forbidden, "glrt-worse": forbidden },
    new Map([
      ["small", named("glrt-bad")],
      ["large", named("glrt-worse", { name: "large" })],
    ]),
  );
  tokens.verifyNew();
  await clock.advance(0);
  pools.delete("small");
  tokens.verifyNew();
  await clock.advance(0);
  tokens.stop();
  await clock.advance(1_000_000);

  expect(tokens.problem("small")).toBeUndefined();
  expect(asked).toEqual(["glrt-bad", "glrt-worse", "glrt-worse"]);
  expect(clock.nextWake()).toBeUndefined();
});
