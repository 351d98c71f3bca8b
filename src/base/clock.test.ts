import { describe, expect, test } from "vitest";
import { systemClock } from "./clock.ts";
import { createManualClock } from "./manual-clock.ts";

describe("system clock", () => {
  test("sleeps and goes on", async () => {
    const before = systemClock.now();

    await systemClock.sleep(5);

    expect(systemClock.now()).toBeGreaterThanOrEqual(before + 4);
  });

  test("a sleep ends at once when its signal aborts", async () => {
    const controller = new AbortController();
    const sleep = systemClock.sleep(60_000, controller.signal);
    const reason = new Error("called off");
    controller.abort(reason);

    await expect(sleep).rejects.toBe(reason);
    await expect(systemClock.sleep(60_000, controller.signal)).rejects.toBe(reason);
  });
});

describe("manual clock", () => {
  test("stands still until it is moved", async () => {
    const clock = createManualClock(1_000);

    await clock.advance(250);

    expect(clock.now()).toBe(1_250);
  });

  test("wakes sleepers in the order of their deadlines, each at its own time", async () => {
    const clock = createManualClock(0);
    const woken: string[] = [];
    const sleeper = async (name: string, ms: number) => {
      await clock.sleep(ms);
      woken.push(`${name} at ${clock.now()}`);
    };
    const all = Promise.all([sleeper("late", 300), sleeper("early", 100), sleeper("never yet", 301)]);

    await clock.advance(300);

    expect(woken).toEqual(["early at 100", "late at 300"]);
    expect(clock.nextWake()).toBe(301);
    await clock.advance(1);
    await all;
    expect(clock.nextWake()).toBeUndefined();
  });

  test("a loop that sleeps again and again runs as often as time allows", async () => {
    const clock = createManualClock(0);
    let rounds = 0;
    const controller = new AbortController();
    const loop = (async () => {
      for (;;) {
        await clock.sleep(10, controller.signal);
        rounds++;
      }
    })();

    await clock.advance(1_000);

    expect(rounds).toBe(100);
    controller.abort(new Error("enough"));
    await expect(loop).rejects.toThrow("enough");
  });

  test("a sleep whose signal has aborted, before or meanwhile, rejects and is forgotten", async () => {
    const clock = createManualClock();
    const controller = new AbortController();
    const sleeping = clock.sleep(100, controller.signal);
    controller.abort(new Error("stop"));

    await expect(sleeping).rejects.toThrow("stop");
    await expect(clock.sleep(100, controller.signal)).rejects.toThrow("stop");
    expect(clock.nextWake()).toBeUndefined();
  });
});
