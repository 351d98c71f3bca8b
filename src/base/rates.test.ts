import { describe, expect, test } from "vitest";
import { createManualClock } from "./manual-clock.ts";
import { createKeyedRateLimit, createTokenBucket } from "./rates.ts";

describe("a token bucket", () => {
  test("gives a burst, and then as many as time brings", async () => {
    const clock = createManualClock();
    const bucket = createTokenBucket(clock, 1 / 1_000, 2);
    const burst = [bucket.tryTake(), bucket.tryTake(), bucket.tryTake()];
    await clock.advance(1_000);

    expect(burst).toEqual([true, true, false]);
    expect([bucket.tryTake(), bucket.tryTake()]).toEqual([true, false]);
  });

  test("lets those who wait through one after the other", async () => {
    const clock = createManualClock();
    const bucket = createTokenBucket(clock, 1 / 1_000, 1);
    const done: string[] = [];
    for (const name of ["a", "b", "c"]) void bucket.take().then(() => done.push(name));
    await clock.advance(0);
    const atOnce = [...done];
    await clock.advance(1_000);
    const afterASecond = [...done];
    await clock.advance(1_000);

    expect([atOnce, afterASecond, done]).toEqual([["a"], ["a", "b"], ["a", "b", "c"]]);
  });

  test("does not take tokens away when the clock is set back", () => {
    let now = 10_000;
    const bucket = createTokenBucket({ now: () => now, sleep: async () => {} }, 1, 5);
    now = 0;

    expect(bucket.tryTake()).toBe(true);
  });

  test("says how long one has to wait for so many, at a rate that may change", async () => {
    const clock = createManualClock();
    let perSecond = 1;
    const bucket = createTokenBucket(clock, () => perSecond / 1_000, 4);
    bucket.spend(6);

    expect([bucket.waitMs(1), bucket.waitMs(2)]).toEqual([3_000, 4_000]);
    perSecond = 2;
    expect(bucket.waitMs(1)).toBe(1_500);
    await clock.advance(1_500);
    expect(bucket.waitMs(1)).toBe(0);
  });
});

function takeMany(limit: { take(key: string): number }, key: string, count: number): number[] {
  return Array.from({ length: count }, () => limit.take(key));
}

describe("a rate limit for each key", () => {
  test("a client may send its minute's worth at once, and then waits for the next to become free", async () => {
    const clock = createManualClock();
    const limit = createKeyedRateLimit(clock, () => 60);

    expect(takeMany(limit, "a", 61)).toEqual([...Array(60).fill(0), 1]);
    await clock.advance(1_000);
    expect(takeMany(limit, "a", 2)).toEqual([0, 1]);
  });

  test("says how many seconds there are to wait", () => {
    const limit = createKeyedRateLimit(createManualClock(), () => 2);

    expect(takeMany(limit, "a", 3)).toEqual([0, 0, 30]);
  });

  test("clients do not use up each other's", () => {
    const limit = createKeyedRateLimit(createManualClock(), () => 1);

    expect([limit.take("a"), limit.take("b"), limit.take("a")]).toEqual([0, 0, 60]);
  });

  test("being refused costs nothing further: whoever stops is free after a minute", async () => {
    const clock = createManualClock();
    const limit = createKeyedRateLimit(clock, () => 5);
    takeMany(limit, "a", 10_000);

    await clock.advance(60_000);

    expect(takeMany(limit, "a", 6)).toEqual([0, 0, 0, 0, 0, 12]);
  });

  test("follows the configuration", () => {
    let perMinute = 1;
    const limit = createKeyedRateLimit(createManualClock(), () => perMinute);
    takeMany(limit, "a", 2);

    perMinute = 100;

    expect(limit.take("b")).toBe(0);
    expect(takeMany(limit, "b", 99).at(-1)).toBe(0);
  });

  test("a clock that is set back takes nothing away and gives nothing", () => {
    let now = 1_000_000;
    const limit = createKeyedRateLimit({ now: () => now }, () => 2);
    limit.take("a");

    now = 0;

    expect(takeMany(limit, "a", 2)).toEqual([0, 30]);
  });

  test("remembers ten thousand clients, and no more", () => {
    const limit = createKeyedRateLimit(createManualClock(), () => 1);
    limit.take("first");
    limit.take("second");
    for (let index = 0; index < 9_998; index++) limit.take(`client ${index}`);
    expect(limit.take("first")).toBe(60);

    limit.take("one more");

    expect(limit.take("first")).toBe(60);
    expect(limit.take("second")).toBe(0);
  });
});
