import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { aPayload } from "../../test/builders/payload.ts";
import { aPool } from "../../test/builders/pool.ts";
import type { JobAnswer } from "../gitlab/runner-api.ts";
import { ClaimingConfig } from "./config.ts";
import { beginPoll, endPoll, newPollState, pollDueAt } from "./poll-schedule.ts";

const config = ClaimingConfig.parse({});
const startAt = 1_700_000_000_000;
const none: JobAnswer = { kind: "none" };
const noneAt = (lastUpdate: string): JobAnswer => ({ kind: "none", lastUpdate });
const job: JobAnswer = { kind: "job", payload: aPayload(), raw: "{}" };
const down: JobAnswer = { kind: "wait", waitMs: 0, problem: "GitLab answers 500", fatal: false };

/** A runner whose polls happen one after the other at a time that the test sets. */
function aRunner() {
  const runner = newPollState(aPool());
  let now = startAt;
  const begin = (inTurn = false) => beginPoll(runner, now, inTurn, config);
  const end = (poll: ReturnType<typeof begin>, answer: JobAnswer) =>
    endPoll(runner, poll, answer, { now, random: () => 0.5, config });
  return {
    runner,
    begin,
    end,
    pass(ms: number) {
      now += ms;
    },
    /** One whole poll; answers the `last_update` that was sent. */
    poll(answer: JobAnswer, { heldMs = 5, inTurn = false } = {}): string | undefined {
      const poll = begin(inTurn);
      now += heldMs;
      end(poll, answer);
      return poll.lastUpdate;
    },
    waitMs: (inTurn = false) => pollDueAt(runner, inTurn) - now,
  };
}

describe("a long poll", () => {
  test("echoes the last value it was given, also after answers without one and after a job", () => {
    const { poll } = aRunner();

    expect(poll(noneAt("a"))).toBeUndefined();
    expect(poll(none, { heldMs: 20_000 })).toBe("a");
    expect(poll(job)).toBe("a");
    expect(poll(noneAt("b"))).toBe("a");
    expect(poll(none, { heldMs: 20_000 })).toBe("b");
  });

  test("is sent again at once after it was held, and after the value it was waiting for came", () => {
    const { poll, waitMs } = aRunner();

    poll(noneAt("a"));
    expect(waitMs()).toBeLessThanOrEqual(0);
    poll(none, { heldMs: 50_000 });
    expect(waitMs()).toBeLessThanOrEqual(0);
    poll(none, { heldMs: 5 });
    expect(waitMs()).toBeLessThanOrEqual(0);
  });

  test("is paced at a GitLab that does not hold requests, be it the gate or GitLab itself that answers", () => {
    const gate = aRunner();
    gate.poll(noneAt("a"));
    gate.poll(none);
    gate.poll(none);
    expect(gate.waitMs()).toBe(config.turnInterval);

    const itself = aRunner();
    itself.poll(noneAt("a"));
    itself.poll(noneAt("a"));
    expect(itself.waitMs()).toBe(config.turnInterval);

    const mute = aRunner();
    mute.poll(none);
    expect(mute.waitMs()).toBe(config.turnInterval);
  });

  test("asks the queue itself when it has not spoken for long", () => {
    const { poll } = aRunner();
    poll(noneAt("a"));

    expect(poll(none, { heldMs: 50_000 })).toBe("a");
    expect(poll(noneAt("a"))).toBeUndefined();
    expect(poll(none, { heldMs: 50_000 })).toBe("a");
  });

  test("is only one: further polls beside it are answered at once", () => {
    const { poll, begin } = aRunner();
    poll(noneAt("a"));

    expect(begin().lastUpdate).toBe("a");
    expect(begin().lastUpdate).toBeUndefined();
  });
});

describe("a poll in turn", () => {
  test("is never held, and waits for its next turn after an empty answer", () => {
    const { poll, waitMs } = aRunner();
    poll(noneAt("a"));

    expect(poll(noneAt("a"), { inTurn: true })).toBeUndefined();
    expect(waitMs(true)).toBe(config.turnInterval);
    expect(waitMs(false)).toBeLessThanOrEqual(0);
  });

  test("may be repeated at once after a job", () => {
    const { poll, waitMs } = aRunner();

    poll(job, { inTurn: true });

    expect(waitMs(true)).toBeLessThanOrEqual(0);
  });
});

test("parallel polls double with every job, up to the limit, and end with the first empty answer", () => {
  const { runner, poll } = aRunner();

  const seen = Array.from({ length: 5 }, () => {
    poll(job);
    return runner.parallel;
  });
  poll(none);

  expect(seen).toEqual([2, 4, 8, 8, 8]);
  expect(runner.parallel).toBe(1);
});

describe("after a failure", () => {
  test("waits grow up to a limit, and end with a good answer", () => {
    const { runner, poll, waitMs, pass } = aRunner();
    const waits = Array.from({ length: 10 }, () => {
      poll(down);
      const waited = waitMs();
      pass(waited);
      return waited;
    });

    expect(waits.slice(0, 3)).toEqual([375, 750, 1_500]);
    expect(waits.at(-1)).toBe(22_500);
    expect(runner.problem).toBe("GitLab answers 500");
    poll(noneAt("a"));
    expect(runner).toMatchObject({ problem: undefined, failures: 0 });
    expect(waitMs()).toBeLessThanOrEqual(0);
  });

  test("polls that fail together count as one failure", () => {
    const { runner, begin, end } = aRunner();
    const polls = [begin(), begin(), begin()];

    for (const poll of polls) end(poll, down);

    expect(runner.failures).toBe(1);
  });

  test("waits as long as GitLab asks", () => {
    const { poll, waitMs } = aRunner();

    poll({ ...down, waitMs: 60_000 });

    expect(waitMs()).toBe(60_000);
  });

  test("waits long when somebody has to act first, and after a job was wasted", () => {
    const refused = aRunner();
    refused.poll({ kind: "wait", waitMs: 0, problem: "GitLab does not know the token", fatal: true });
    expect(refused.runner.fatal).toBe(true);
    expect(refused.waitMs()).toBeGreaterThanOrEqual(60_000);

    const wasted = aRunner();
    wasted.poll({ kind: "unusable", problem: "not JSON" });
    expect(wasted.waitMs()).toBeGreaterThanOrEqual(30_000);
  });
});

test("no minute sees more requests than allowed, whatever GitLab answers", () => {
  const answers = fc.constantFrom(job, none, noneAt("a"), noneAt("b"));
  fc.assert(
    fc.property(fc.infiniteStream(answers), (stream) => {
      const { runner, begin, end, pass, waitMs } = aRunner();
      let sent = 0;
      for (let elapsedMs = 0; elapsedMs < 60_000; elapsedMs += 10, pass(10)) {
        while (waitMs() <= 0 && sent < 5_000) {
          sent++;
          end(begin(), stream.next().value);
        }
      }

      expect(sent).toBeLessThanOrEqual(2_000);
      expect(runner.openPolls).toBe(0);
    }),
    { numRuns: 20 },
  );
});
