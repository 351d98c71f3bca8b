import { describe, expect, test } from "vitest";
import { createManualClock } from "../../base/manual-clock.ts";
import { createUnprovenLimit } from "./refusal.ts";

function takeMany(limit: { take(key: string): number }, key: string, count: number): number[] {
  return Array.from({ length: count }, () => limit.take(key));
}

describe("the limit of what proves nothing", () => {
  test("a client may send its minute's worth at once, and then waits for the next to become free", async () => {
    const clock = createManualClock();
    const limit = createUnprovenLimit(clock, () => 60);

    expect(takeMany(limit, "a", 61)).toEqual([...Array(60).fill(0), 1]);
    await clock.advance(1_000);
    expect(takeMany(limit, "a", 2)).toEqual([0, 1]);
  });

  test("says how many seconds there are to wait", () => {
    const limit = createUnprovenLimit(createManualClock(), () => 2);

    expect(takeMany(limit, "a", 3)).toEqual([0, 0, 30]);
  });

  test("clients do not use up each other's", () => {
    const limit = createUnprovenLimit(createManualClock(), () => 1);

    expect([limit.take("a"), limit.take("b"), limit.take("a")]).toEqual([0, 0, 60]);
  });

  test("being refused costs nothing further: whoever stops is free after a minute", async () => {
    const clock = createManualClock();
    const limit = createUnprovenLimit(clock, () => 5);
    takeMany(limit, "a", 10_000);

    await clock.advance(60_000);

    expect(takeMany(limit, "a", 6)).toEqual([0, 0, 0, 0, 0, 12]);
  });

  test("follows the configuration", () => {
    let perMinute = 1;
    const limit = createUnprovenLimit(createManualClock(), () => perMinute);
    takeMany(limit, "a", 2);

    perMinute = 100;

    expect(limit.take("b")).toBe(0);
    expect(takeMany(limit, "b", 99).at(-1)).toBe(0);
  });

  test("a clock that is set back takes nothing away and gives nothing", () => {
    let now = 1_000_000;
    const limit = createUnprovenLimit({ now: () => now }, () => 2);
    limit.take("a");

    now = 0;

    expect(takeMany(limit, "a", 2)).toEqual([0, 30]);
  });

  test("remembers ten thousand clients, and no more", () => {
    const limit = createUnprovenLimit(createManualClock(), () => 1);
    limit.take("first");
    limit.take("second");
    for (let index = 0; index < 9_998; index++) limit.take(`client ${index}`);
    expect(limit.take("first")).toBe(60);

    limit.take("one more");

    expect(limit.take("first")).toBe(60);
    expect(limit.take("second")).toBe(0);
  });
});
