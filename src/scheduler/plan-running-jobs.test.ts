import { describe, expect, test } from "vitest";
import { aJob } from "../../test/builders/job.ts";
import { aMachine } from "../../test/builders/machine.ts";
import { aSnapshot, ended, failed, listing, M, now, planned, policy } from "../../test/builders/snapshot.ts";
import type { GuestEnd } from "../domain/events.ts";
import type { ExitKind } from "../vm/driver.ts";
import type { Snapshot } from "./snapshot.ts";

describe("a running job", () => {
  const job = aJob({ state: "running" });
  const busy = aMachine({ state: "busy" });

  test("is left alone while its machine works", () => {
    expect(planned(aSnapshot(job, busy))).toEqual([]);
  });

  test.each<[ExitKind, string]>([
    ["orderly", "the guest powered off without reporting a result"],
    ["crash", "the machine crashed"],
    ["killed", "the machine was killed from outside"],
  ])("fails when its machine ended: %s, and is never given to another machine", (exit, words) => {
    expect(planned(aSnapshot(job, busy, { hosts: listing(ended(exit)) }))).toEqual([failed(words)]);
  });

  test.each<[GuestEnd, string]>([
    ["orderly", "the guest powered off without reporting a result"],
    ["restarted", "its machine had ended, and its host has started it again on its used disk"],
  ])("fails when its guest tells of its end (%s) and its host still says that it runs", (end, words) => {
    const ends = new Map([[M, end]]);

    expect(planned(aSnapshot(job, busy, { ends }))).toEqual([failed(words)]);
    expect(planned(aSnapshot(aJob({ state: "failing", reason: words }), busy, { ends }))).toContainEqual({
      kind: "stopMachine",
      machineId: M,
      reason: words,
    });
  });

  test("fails with the reason for which its machine was stopped", () => {
    const machine = aMachine({ state: "gone", reason: "the guest broke the rules" });

    const hosts = listing(undefined);

    expect(planned(aSnapshot(job, machine, { hosts }))).toEqual([failed("the guest broke the rules")]);
  });

  test("fails when its machine is silent for too long, counted from the start of this program", () => {
    const late = now + policy.silenceLimit;
    const statusAt = new Map([[4711, late]]);

    expect(planned(aSnapshot(job, busy, { statusAt }), late)).toEqual([
      failed("the machine gave no sign of life for 5m0s"),
    ]);
    expect(planned(aSnapshot(job, busy, { statusAt, since: late - 1 }), late)).toEqual([]);
  });

  test("is not called silent or late for the time by which the clock was set, forward or back", () => {
    const forward = now + policy.silenceLimit + job.timeoutMs + policy.timeoutGrace;
    const back = now - 3_600_000;
    const at = (time: number) => ({ statusAt: new Map([[4711, time]]), steppedAt: time, since: 0 });

    expect(planned(aSnapshot(job, busy, at(forward)), forward)).toEqual([]);
    expect(planned(aSnapshot(job, busy, at(back)), back)).toEqual([]);
    // From then on its time is counted anew, whatever was heard at a time that is still to come.
    const silent = { ...at(back), statusAt: new Map([[4711, back + policy.silenceLimit]]) };
    expect(planned(aSnapshot(job, busy, silent), back + policy.silenceLimit)).toEqual([
      failed("the machine gave no sign of life for 5m0s"),
    ]);
  });

  test("is lost with its host when its machine is silent and that host does not answer", () => {
    const late = now + policy.silenceLimit;
    const there = aMachine({ state: "busy", host: "metal-1" });
    const hosts = new Map([["fake/metal-1", { listed: undefined, capacity: undefined }]]);
    const statusAt = new Map([[4711, late]]);

    expect(planned(aSnapshot(job, there, { hosts, statusAt }), late)).toEqual([
      failed(expect.stringMatching(/no sign of life .*its host metal-1 does not answer/), "host-lost"),
    ]);
  });

  test("has reached its time limit when its machine fell silent and the limit has passed since", () => {
    const short = aJob({ state: "running", timeoutMs: policy.silenceLimit - 1 });
    const late = now + policy.silenceLimit;
    const statusAt = new Map([[4711, late]]);

    expect(planned(aSnapshot(short, busy, { statusAt }), late)).toEqual([
      failed(expect.stringContaining("and the machine gave no sign of life for 5m0s"), "time-limit"),
    ]);
  });

  test("is not said to have reached its time limit when its machine died, however late that is seen", () => {
    const late = (job.runningAt ?? 0) + job.timeoutMs + policy.timeoutGrace;
    const hosts = listing(ended("crash"));

    expect(planned(aSnapshot(job, busy, { hosts }), late)).toEqual([failed("the machine crashed")]);
  });

  test("fails for what its machine was stopped for", () => {
    const machine = aMachine({ state: "stopping", reason: "its host is gone for good", cause: "host-lost" });

    expect(planned(aSnapshot(job, machine))).toEqual([failed("its host is gone for good", "host-lost")]);
  });

  test("fails when it outlives its own time limit by more than the grace", () => {
    const late = (job.runningAt ?? 0) + job.timeoutMs + policy.timeoutGrace;
    const fresh = { statusAt: new Map([[4711, late]]), heardAt: new Map([[M, late]]) };

    expect(planned(aSnapshot(job, busy, fresh), late - 1)).toEqual([]);
    expect(planned(aSnapshot(job, busy, fresh), late)).toEqual([
      failed("the job's time limit of 1h0m is over and its runner did not end it", "time-limit"),
    ]);
    expect(planned(aSnapshot(job, busy, { ...fresh, since: late - 1 }), late)).toEqual([]);
  });

  test("has GitLab asked when nothing was heard of its standing for a while", () => {
    const ask = [{ kind: "checkStatus", jobId: 4711 }];
    const later = now + policy.standingInterval;
    const heard = new Map([[4711, now + 1]]);
    const asked = (more: Partial<Snapshot>) =>
      planned(aSnapshot(job, busy, { heardAt: new Map([[M, later]]), ...more }), later);

    expect(asked({ statusAt: new Map() })).toEqual(ask);
    expect(asked({ statusAt: heard })).toEqual([]);
    expect(asked({ statusAt: heard, recheckAt: new Map([[4711, later]]) })).toEqual(ask);
    expect(asked({ statusAt: heard, recheckAt: new Map([[4711, later + 1]]) })).toEqual([]);
  });
});

test("a thousand silent jobs do not make GitLab answer more than 20 questions a second", () => {
  const jobs = Array.from({ length: 1_000 }, (_, index) => aJob({ id: index + 1, claimedAt: now }));
  const starting = new Map(jobs.map(({ id }) => [id, "fake"]));
  const asked = (at: number) =>
    planned(aSnapshot(undefined, undefined, { jobs, starting, statusAt: new Map() }), at).length;

  expect(asked(now + 49_999)).toBe(0);
  expect(asked(now + 50_000)).toBe(1_000);
});

describe("a failing job", () => {
  test("is reported when its report is due, and lets its machine go", () => {
    const machine = aMachine({ state: "busy" });
    const stop = { kind: "stopMachine", machineId: M, reason: "the machine died" };

    expect(planned(aSnapshot(aJob({ state: "failing" }), machine))).toEqual([
      { kind: "report", jobId: 4711 },
      stop,
    ]);
    expect(planned(aSnapshot(aJob({ state: "failing", reportAt: now + 1 }), machine))).toEqual([stop]);
  });
});
