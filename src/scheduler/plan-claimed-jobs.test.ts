import { describe, expect, test } from "vitest";
import { aHostCapacity } from "../../test/builders/host-capacity.ts";
import { aJob, someTime } from "../../test/builders/job.ts";
import { aMachine } from "../../test/builders/machine.ts";
import { aSize } from "../../test/builders/size.ts";
import { aSnapshot, failed, now, planned, policy, running } from "../../test/builders/snapshot.ts";
import type { Snapshot } from "./snapshot.ts";

describe("a claimed job", () => {
  const job = aJob({ state: "claimed" });

  test("gets a machine", () => {
    expect(planned(aSnapshot(job, undefined))).toEqual([{ kind: "startMachine", jobId: 4711, host: "fake" }]);
  });

  test("waits while its host is full, and for a driver that cannot tell what it has", () => {
    const other = aMachine({ id: "fr-bbbbbbbb", jobId: 1, state: "stopping", size: aSize({ cpus: 4 }) });
    const capacity = { cpus: 4, memoryMib: 65_536, machines: 64 };
    const full = new Map([
      ["fake", { listed: [{ id: other.id, status: running }], capacity: aHostCapacity({ capacity }) }],
    ]);
    const silent = new Map([["fake", { listed: undefined, capacity: undefined }]]);

    expect(planned(aSnapshot(job, other, { hosts: full }))).not.toContainEqual(
      expect.objectContaining({ kind: "startMachine" }),
    );
    expect(planned(aSnapshot(job, undefined, { hosts: silent }))).toEqual([]);
  });

  test("waits when it is larger than any host, and fails with that reason", () => {
    const large = aJob({ size: aSize({ cpus: 128 }) });

    expect(planned(aSnapshot(large, undefined))).toEqual([]);
    expect(planned(aSnapshot(large, undefined), someTime + policy.startLimit)).toEqual([
      failed(expect.stringContaining("within 10m0s: no room for 128 CPUs"), "never-started"),
    ]);
  });

  test("is not overtaken for ever by smaller ones that came later", () => {
    const [large, little] = [
      aJob({ id: 1, claimedAt: someTime, size: aSize({ cpus: 4 }) }),
      aJob({ id: 2, claimedAt: someTime + 1, size: aSize({ cpus: 1 }) }),
    ];
    const capacity = { cpus: 4, memoryMib: 65_536, machines: 64 };
    const other = aMachine({ id: "fr-bbbbbbbb", jobId: 3, state: "stopping", size: aSize({ cpus: 1 }) });
    const hosts = new Map([
      ["fake", { listed: [{ id: other.id, status: running }], capacity: aHostCapacity({ capacity }) }],
    ]);
    const statusAt = new Map([large, little].map(({ id }) => [id, now]));

    const actions = planned(aSnapshot(undefined, other, { jobs: [large, little], hosts, statusAt }));

    expect(actions.map(({ kind }) => kind)).toEqual(["destroy"]);
  });

  test("counts with the machine that is being started for another, though its row is not there yet", () => {
    const jobs = [1, 2].map((id) => aJob({ id, claimedAt: someTime + id, size: aSize({ cpus: 4 }) }));
    const capacity = { cpus: 4, memoryMib: 65_536, machines: 64 };
    const hosts = new Map([["fake", { listed: [], capacity: aHostCapacity({ capacity }) }]]);
    const statusAt = new Map(jobs.map(({ id }) => [id, now]));
    const starting = new Map([[1, "fake"]]);

    expect(planned(aSnapshot(undefined, undefined, { jobs, hosts, statusAt, starting }))).toEqual([]);
  });

  test("goes elsewhere when it has lost a machine, if there is an elsewhere", () => {
    const capacities = ["fake", "fake/b"].map(
      (key) => [key, { listed: [], capacity: aHostCapacity({ key }) }] as const,
    );
    const avoidedHosts = new Map([[4711, new Set(["fake"])]]);

    expect(planned(aSnapshot(job, undefined, { hosts: new Map(capacities), avoidedHosts }))).toMatchObject([
      { kind: "startMachine", host: "fake/b" },
    ]);
    expect(
      planned(aSnapshot(job, undefined, { hosts: new Map(capacities.slice(0, 1)), avoidedHosts })),
    ).toMatchObject([{ kind: "startMachine", host: "fake" }]);
  });

  const refusal = { images: undefined, size: undefined, problem: "its disk is full", isOnTrial: false };

  test("does not go where the last machine was not made, until that host may be tried again", () => {
    const on = (isOnTrial: boolean) =>
      new Map([["fake", { listed: [], capacity: aHostCapacity({ refusals: [{ ...refusal, isOnTrial }] }) }]]);
    const jobs = [1, 2].map((id) => aJob({ id, claimedAt: someTime + id }));
    const statusAt = new Map(jobs.map(({ id }) => [id, now]));
    const starts = (hosts: Snapshot["hosts"]) =>
      planned(aSnapshot(undefined, undefined, { jobs, hosts, statusAt }));

    expect(starts(on(false))).toEqual([]);
    // One of them shows whether it can.
    expect(starts(on(true))).toEqual([{ kind: "startMachine", jobId: 1, host: "fake" }]);
  });

  test("says at its end what the host had against it", () => {
    const hosts = new Map([["fake", { listed: [], capacity: aHostCapacity({ refusals: [refusal] }) }]]);

    expect(planned(aSnapshot(job, undefined, { hosts }), someTime + policy.startLimit)).toEqual([
      failed(expect.stringMatching(/within 10m0s: .*its disk is full/), "never-started"),
    ]);
  });

  test("has one more host tried when another one kept it for all its time", () => {
    const capacities = ["fake", "fake/b"].map(
      (key) => [key, { listed: [], capacity: aHostCapacity({ key }) }] as const,
    );
    const avoidedHosts = new Map([[4711, new Set(["fake"])]]);
    const at = (hosts: typeof capacities, ms: number) =>
      planned(aSnapshot(job, undefined, { hosts: new Map(hosts), avoidedHosts }), someTime + ms);

    expect(at(capacities, policy.startLimit)).toContainEqual(
      expect.objectContaining({ kind: "startMachine", host: "fake/b" }),
    );
    expect(at(capacities.slice(0, 1), policy.startLimit)).toEqual([
      failed(expect.anything(), "never-started"),
    ]);
    expect(at(capacities, 2 * policy.startLimit)).toEqual([failed(expect.anything(), "never-started")]);
  });

  test("fails at once when every host that could hold it says that it cannot be as it is asked for", () => {
    const never = { ...refusal, size: job.size, problem: "it makes no such machine" };
    const refusing = (key: string) =>
      [key, { listed: [], capacity: aHostCapacity({ key, refusals: [never] }) }] as const;
    const full = aHostCapacity({ key: "fake/c", closed: "it is drained" });

    const all = new Map([refusing("fake/a"), refusing("fake/b")]);
    expect(planned(aSnapshot(job, undefined, { hosts: all }))).toEqual([
      failed(
        expect.stringMatching(/no machine can be made for it: .*it makes no such machine/),
        "unservable",
      ),
    ]);
    const some = new Map([...all, ["fake/c", { listed: [], capacity: full }] as const]);
    expect(planned(aSnapshot(job, undefined, { hosts: some }))).toEqual([]);
  });

  test("shares a host with the others in the order of the claims", () => {
    const jobs = [3, 1, 2].map((id) => aJob({ id, claimedAt: someTime + id, size: aSize({ cpus: 2 }) }));
    const capacity = { cpus: 4, memoryMib: 65_536, machines: 64 };
    const hosts = new Map([["fake", { listed: [], capacity: aHostCapacity({ capacity }) }]]);
    const statusAt = new Map(jobs.map(({ id }) => [id, now]));

    const actions = planned(aSnapshot(undefined, undefined, { jobs, hosts, statusAt }));

    expect(actions.map((action) => "jobId" in action && action.jobId)).toEqual([1, 2]);
  });

  test("fails when its pool is gone, or no machine came for too long", () => {
    expect(planned(aSnapshot(job, undefined, { pools: new Map() }))).toEqual([
      failed("the pool “small” is not configured any more", "unservable"),
    ]);
    expect(planned(aSnapshot(job, undefined), someTime + policy.startLimit)).toEqual([
      failed(expect.stringContaining("within 10m"), "never-started"),
    ]);
  });

  test("is not late because this program was not running", () => {
    const late = someTime + policy.startLimit;

    expect(planned(aSnapshot(job, undefined, { since: late - 1 }), late).map(({ kind }) => kind)).toContain(
      "startMachine",
    );
  });
});
