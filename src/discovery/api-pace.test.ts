import { expect, test } from "vitest";
import { silentLog } from "../base/log.ts";
import { createManualClock, type ManualClock } from "../base/manual-clock.ts";
import type { RateBudget } from "../gitlab/rest-api.ts";
import { type ApiPace, createApiPace } from "./api-pace.ts";

const MINUTE = 60_000;

function aPace(
  clock: ManualClock,
  budget: () => RateBudget | undefined = () => undefined,
  logged: string[] = [],
) {
  const note = (_fields: object, message: string) => void logged.push(message);
  return createApiPace({
    clock,
    log: { ...silentLog, warn: note, info: note },
    requestsPerMinute: 60,
    budget,
  });
}

/** Requests sent in so long by somebody who sends whenever it is allowed. */
async function sentIn(ms: number, pace: ApiPace, clock: ManualClock, isUrgent = true): Promise<number> {
  const until = clock.now() + ms;
  let sent = 0;
  while (clock.now() < until) {
    const readyAt = pace.readyAt(isUrgent);
    if (readyAt <= clock.now()) {
      pace.spend();
      sent++;
    } else await clock.advance(Math.min(readyAt, until) - clock.now());
  }
  return sent;
}

test("keeps to the configured rate, whoever asks", async () => {
  const clock = createManualClock();
  const pace = aPace(clock);

  expect(await sentIn(10 * MINUTE, pace, clock)).toBeGreaterThan(590);
  expect(await sentIn(10 * MINUTE, pace, clock)).toBeLessThanOrEqual(605);
  expect(await sentIn(10 * MINUTE, pace, clock, false)).toBeLessThanOrEqual(605);
});

test("leaves room for what is urgent", async () => {
  const clock = createManualClock();
  const pace = aPace(clock);
  await sentIn(MINUTE + 500, pace, clock, false);

  expect(pace.readyAt(false)).toBeGreaterThan(clock.now());
  expect(pace.readyAt(true)).toBeLessThanOrEqual(clock.now());
});

test("counts each page of a long list", async () => {
  const clock = createManualClock();
  const pace = aPace(clock);
  pace.spend(30);

  expect(pace.readyAt(true)).toBeGreaterThan(clock.now() + 25_000);
});

test("is slower the less of GitLab's limit is left, never stands still, and is whole again after the reset", async () => {
  const clock = createManualClock();
  let budget: RateBudget | undefined = { limit: 1_000, remaining: 125, resetsAt: clock.now() + 20 * MINUTE };
  const logged: string[] = [];
  const pace = aPace(clock, () => budget, logged);

  expect(await sentIn(10 * MINUTE, pace, clock)).toBeLessThan(310);
  budget = { ...budget, remaining: 0 };
  const atTheEnd = await sentIn(10 * MINUTE, pace, clock);
  expect(atTheEnd).toBeGreaterThan(50);
  expect(atTheEnd).toBeLessThan(68);
  expect(await sentIn(10 * MINUTE, pace, clock)).toBeGreaterThan(590);
  expect(logged).toEqual([
    "GitLab's rate limit is nearly used up: jobs are looked for more slowly",
    "jobs are looked for at the usual pace again",
  ]);
});

test("stands still where GitLab asks for it, and says until when", async () => {
  const clock = createManualClock();
  const pace = aPace(clock);
  pace.holdUntil(clock.now() + MINUTE);
  pace.holdUntil(clock.now() + 1_000);

  expect(pace.readyAt(true)).toBe(clock.now() + MINUTE);
  expect(pace.problem()).toContain(new Date(clock.now() + MINUTE).toISOString());
  await clock.advance(MINUTE);
  expect(pace.problem()).toBeUndefined();
});
