import { describe, expect, test } from "vitest";
import { createManualClock } from "../base/manual-clock.ts";
import { createTokenBucket } from "./token-bucket.ts";

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
});
