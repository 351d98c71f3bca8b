import { describe, expect, test } from "vitest";
import { createManualClock } from "./manual-clock.ts";
import { createWakeLoop, createWaker } from "./wake-loop.ts";

test("however often it is woken in a burst, it looks once more", async () => {
  const clock = createManualClock();
  let looks = 0;
  const loop = createWakeLoop(clock, async () => {
    looks++;
    return clock.now() + 60_000;
  });
  loop.start();
  await clock.advance(0);

  for (let count = 0; count < 100; count++) loop.wake();
  await clock.advance(0);
  expect(looks).toBe(2);

  await clock.advance(60_000);
  expect(looks).toBe(3);
  await loop.stop();
  expect(looks).toBe(3);
});

describe("a waker", () => {
  const signal = new AbortController().signal;

  test.each([
    { what: "wakes before", wakes: ["a", "b"], advanceMs: 0, reason: "a" },
    { what: "no wake", wakes: [], advanceMs: 1_000, reason: "tick" },
  ])("gives the next round its reason: $what", async ({ wakes, advanceMs, reason }) => {
    const clock = createManualClock();
    const waker = createWaker(clock);
    for (const each of wakes) waker.wake(each);
    const next = waker.next(1_000, signal);
    await clock.advance(advanceMs);

    expect(await next).toBe(reason);
  });

  test("wakes who waits, once for however many wakes", async () => {
    const clock = createManualClock();
    const waker = createWaker(clock);
    const next = waker.next(1_000, signal);
    for (const each of ["a", "b", "c"]) waker.wake(each);
    expect(await next).toBe("a");

    const after = waker.next(1_000, signal);
    await clock.advance(1_000);
    expect(await after).toBe("tick");
  });

  test("says that it is over", async () => {
    const ending = new AbortController();
    const next = createWaker(createManualClock()).next(1_000, ending.signal);
    ending.abort();

    expect(await next).toBe("stop");
  });
});
