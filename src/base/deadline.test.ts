import { describe, expect, test } from "vitest";
import { atMost, outOfTime, startDeadline, untilAborted, withDeadline } from "./deadline.ts";
import { createManualClock } from "./manual-clock.ts";

const hanging = () => new Promise<never>(() => {});

/** Ends as soon as its signal aborts, with the reason. */
function obedient(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
}

/** What a promise came to by now. */
async function stateOf(promise: Promise<unknown>): Promise<unknown> {
  const later = new Promise((resolve) => setImmediate(() => resolve("pending")));
  return await Promise.race([promise.catch((error: unknown) => error), later]);
}

describe("work with a time limit", () => {
  const late = () => new Error("it took longer than 10 s");

  test.each([
    { work: "ends in time", doIt: async () => "done", afterMs: 0, came: "done" },
    { work: "heeds its signal", doIt: obedient, afterMs: 10_000, came: late() },
    { work: "cleans up too long", doIt: hanging, afterMs: 14_999, came: "pending" },
    { work: "hangs", doIt: hanging, afterMs: 15_000, came: late() },
  ])("that $work: after $afterMs ms", async ({ doIt, afterMs, came }) => {
    const clock = createManualClock();
    const work = withDeadline<string>(clock, { limitMs: 10_000, late }, doIt);
    work.catch(() => {});
    await clock.advance(afterMs);

    expect(await stateOf(work)).toEqual(came);
  });

  test("ends with the parent's reason, at once where nothing is to be cleaned up", async () => {
    const clock = createManualClock();
    const parent = new AbortController();
    const work = withDeadline(clock, { limitMs: 10_000, parent: parent.signal, cleanUpMs: 0 }, hanging);
    parent.abort(new Error("not wanted"));

    await expect(work).rejects.toThrow("not wanted");
    await expect(withDeadline(clock, { limitMs: 1, parent: parent.signal }, hanging)).rejects.toThrow(
      "not wanted",
    );
  });

  test("leaves no timer behind", async () => {
    const clock = createManualClock();
    await withDeadline(clock, { limitMs: 10_000 }, async () => {});
    await atMost(clock, 10_000, Promise.resolve());
    const deadline = startDeadline(clock, 10_000);
    deadline.clear();
    await clock.advance(0);

    expect(clock.nextWake()).toBeUndefined();
  });
});

test("a deadline says whether it was the time that ended it", async () => {
  const clock = createManualClock();
  const parent = new AbortController();
  const [timed, followed] = [startDeadline(clock, 5), startDeadline(clock, 10, parent.signal)];
  parent.abort("ended");
  await clock.advance(5);

  expect([timed.isOver(), timed.signal.reason]).toEqual([true, outOfTime]);
  expect([followed.isOver(), followed.signal.reason]).toEqual([false, "ended"]);
});

describe("waiting with a limit", () => {
  test.each([
    { what: "the work ends", afterMs: 0, work: Promise.resolve(), abort: false, state: undefined },
    { what: "the time is not over", afterMs: 999, work: hanging(), abort: false, state: "pending" },
    { what: "the time is over", afterMs: 1_000, work: hanging(), abort: false, state: undefined },
    { what: "it is called off", afterMs: 0, work: hanging(), abort: true, state: undefined },
  ])("$what", async ({ afterMs, work, abort, state }) => {
    const clock = createManualClock();
    const hurry = new AbortController();
    const waiting = atMost(clock, 1_000, work, hurry.signal);
    if (abort) hurry.abort();
    await clock.advance(afterMs);

    expect(await stateOf(waiting)).toBe(state);
  });

  test("until a signal: the work goes on", async () => {
    const signal = AbortSignal.abort(new Error("gone"));

    await expect(untilAborted(hanging(), signal)).rejects.toThrow("gone");
    expect(await untilAborted(Promise.resolve(7), new AbortController().signal)).toBe(7);
  });
});
