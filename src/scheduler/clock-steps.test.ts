import { expect, test } from "vitest";
import { createClockSteps } from "./clock-steps.ts";

const TICK_MS = 1_000;

function setUp() {
  const clock = { at: 1_000_000, now: () => clock.at };
  const steps: number[] = [];
  const warn = ({ stepMs }: object & { stepMs?: number }) => steps.push(stepMs ?? 0);
  const watched = createClockSteps({ clock, log: { warn } });
  const go = (ms: number) => {
    clock.at += ms;
    watched.look(TICK_MS);
  };
  return { clock, steps, watched, go };
}

test("time that goes by as it should is no step, nor is a busy computer or a clock that is led back slowly", () => {
  const { go, steps, watched } = setUp();

  for (const ms of [0, 20, 1_000, 15_000, -500, 1_000]) go(ms);

  expect([steps, watched.known().steppedAt]).toEqual([[], undefined]);
});

test("a clock that was set is noticed once, forward and back, with the time that it shows then", () => {
  const { clock, go, steps, watched } = setUp();

  go(600_000);
  expect(watched.known().steppedAt).toBe(clock.at);
  go(1_000);
  go(-600_000);
  go(1_000);

  expect(steps).toEqual([600_000, -600_000]);
  expect(watched.known().steppedAt).toBe(clock.at - 1_000);
});
