import { expect, test } from "vitest";
import { createManualClock } from "./manual-clock.ts";
import { createWakeLoop } from "./wake-loop.ts";

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
