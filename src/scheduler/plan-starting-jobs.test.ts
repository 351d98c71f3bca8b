import { describe, expect, test } from "vitest";
import { aHostCapacity } from "../../test/builders/host-capacity.ts";
import { aJob, someTime } from "../../test/builders/job.ts";
import { aMachine } from "../../test/builders/machine.ts";
import {
  aSnapshot,
  ended,
  failed,
  listing,
  M,
  planned,
  policy,
  retried,
} from "../../test/builders/snapshot.ts";
import type { GuestEnd } from "../domain/events.ts";
import type { ExitKind } from "../vm/driver.ts";

const neverThere = { bootingAt: null, heardAt: null };

describe("a starting job", () => {
  const job = aJob({ state: "starting" });
  const booting = aMachine({ state: "booting" });

  test("has its machine created, whatever the driver says of it", () => {
    const machine = aMachine({ state: "creating" });
    const create = [{ kind: "create", machineId: M, host: "fake" }];

    expect(planned(aSnapshot(job, machine))).toEqual(create);
    expect(planned(aSnapshot(job, machine, { hosts: listing(undefined) }))).toEqual(create);
    expect(planned(aSnapshot(job, machine, { hosts: listing(ended("lost")) }))).toEqual(create);
  });

  test("is left alone while its machine boots", () => {
    expect(planned(aSnapshot(job, booting))).toEqual([]);
  });

  test.each<[ExitKind, string]>([
    ["orderly", "the guest powered off before it took the job"],
    ["crash", "the machine crashed"],
    ["killed", "the machine was killed from outside"],
    ["lost", "the machine disappeared and nobody saw how it ended"],
  ])("gets another machine when this one ended: %s", (exit, words) => {
    expect(planned(aSnapshot(job, booting, { hosts: listing(ended(exit)) }))).toEqual([retried(words)]);
  });

  test("gets another machine when this one is missing, but only if the list can have shown it", () => {
    const hosts = listing(undefined);

    expect(planned(aSnapshot(job, booting, { hosts }))).toEqual([retried(expect.any(String))]);
    expect(planned(aSnapshot(job, booting, { hosts, settled: new Set() }))).toEqual([]);
  });

  test("is not concluded from a driver that could not be asked", () => {
    const hosts = new Map([["fake", { listed: undefined, capacity: aHostCapacity() }]]);

    expect(planned(aSnapshot(job, booting, { hosts }))).toEqual([]);
  });

  test("gets another machine when this one could not be started, and keeps it until then", () => {
    const machine = aMachine({
      ...neverThere,
      state: "stopping",
      reason: "it could not be started: no room",
    });

    expect(planned(aSnapshot(job, machine))).toEqual([retried("it could not be started: no room", false)]);
  });

  test("is charged with an attempt only when its machine was there", () => {
    const last = aJob({ state: "starting", attempt: policy.attempts });
    const refused = aMachine({ ...neverThere, state: "stopping", reason: "its host is out of order" });
    const lost = aMachine({ state: "stopping", reason: "it crashed", bootingAt: someTime });

    expect(planned(aSnapshot(last, refused))).toEqual([retried("its host is out of order", false)]);
    expect(planned(aSnapshot(last, lost))).toEqual([
      failed(expect.stringContaining("it crashed"), "never-started"),
    ]);
  });

  test.each<[GuestEnd, string]>([
    ["orderly", "the guest powered off before it took the job"],
    ["restarted", "its machine had ended, and its host has started it again on its used disk"],
  ])("gets another machine when its guest tells of its end (%s)", (end, words) => {
    const ends = new Map([[M, end]]);

    expect(planned(aSnapshot(job, booting, { ends }))).toEqual([retried(words)]);
  });

  test("gets another machine when this one takes too long, counted from the start of this program", () => {
    const late = (booting.bootingAt ?? 0) + policy.bootDeadline;
    const statusAt = new Map([[4711, late]]);

    expect(planned(aSnapshot(job, booting, { statusAt }), late)).toEqual([
      retried("the guest was not heard of within 2m0s after its start"),
    ]);
    expect(planned(aSnapshot(job, aMachine({ state: "ready" }), { statusAt }), late)).toEqual([
      retried(expect.stringContaining("did not take the job")),
    ]);
    expect(planned(aSnapshot(job, booting, { statusAt, since: late - 1 }), late)).toEqual([]);
  });

  test("fails after the last attempt and says how many there were", () => {
    const last = aJob({ state: "starting", attempt: 3 });

    expect(planned(aSnapshot(last, booting, { hosts: listing(ended("crash")) }))).toEqual([
      failed("no machine took it in 3 attempts; the last one: the machine crashed", "never-started"),
    ]);
  });

  test("is retried when its machine's row is not there at all", () => {
    expect(planned(aSnapshot(job, undefined))).toEqual([retried("its machine is not known any more")]);
  });
});
