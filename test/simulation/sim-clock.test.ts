import { expect, test } from "vitest";
import { createSimClock } from "./sim-clock.ts";

test("no time passes while there is work that only lets others go first", async () => {
  const clock = createSimClock(1_000);
  const stampsAt: number[] = [];
  const isDone = () => stampsAt.length === 50 && clock.now() > 1_000;
  for (let each = 0; each < 10; each++) void clock.sleep(10 * (each + 1));
  void (async () => {
    while (stampsAt.length < 50) {
      stampsAt.push(clock.now());
      await new Promise((resolve) => setImmediate(resolve));
    }
  })();

  expect(await clock.runUntil(isDone, 1_000)).toBe(true);

  expect(new Set(stampsAt)).toEqual(new Set([1_000]));
  expect(clock.now()).toBe(1_010);
});
