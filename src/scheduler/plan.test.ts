import { describe, expect, test } from "vitest";
import { aHostCapacity } from "../../test/builders/host-capacity.ts";
import { aJob } from "../../test/builders/job.ts";
import { aMachine } from "../../test/builders/machine.ts";
import { aSnapshot, failed, listing, M, planned, running } from "../../test/builders/snapshot.ts";
import { failureOfExit } from "./plan.ts";

describe("a machine", () => {
  test.each(["creating", "booting", "ready", "busy"] as const)(
    "that is %s is stopped when its job has ended",
    (state) => {
      expect(planned(aSnapshot(undefined, aMachine({ state })))).toEqual([
        { kind: "stopMachine", machineId: M, reason: "its job has ended" },
      ]);
    },
  );

  test("is stopped when its job has gone on to another machine", () => {
    const job = aJob({ state: "starting", machineId: "fr-bbbbbbbb", attempt: 2 });
    const next = aMachine({ id: "fr-bbbbbbbb", state: "creating" });
    const snapshot = aSnapshot(job, next, { machines: [next, aMachine({ state: "booting" })] });

    expect(planned(snapshot)).toContainEqual(expect.objectContaining({ kind: "stopMachine", machineId: M }));
  });

  test("that is stopping is destroyed once its job has let go of it", () => {
    const machine = aMachine({ state: "stopping" });
    const destroy = [{ kind: "destroy", machineId: M, host: "fake" }];

    expect(planned(aSnapshot(undefined, machine))).toEqual(destroy);
    expect(planned(aSnapshot(undefined, machine, { hosts: listing(undefined) }))).toEqual(destroy);
    expect(planned(aSnapshot(aJob({ state: "running" }), machine)).map(({ kind }) => kind)).toEqual([
      "failJob",
    ]);
  });

  test.each(["booting", "ready", "busy"] as const)("found %s after a restart is adopted once", (state) => {
    const job = aJob({ state: state === "busy" ? "running" : "starting" });
    const adopt = [{ kind: "adopt", machineId: M, host: "fake" }];
    const unasked = new Map([["fake", { listed: undefined, capacity: aHostCapacity() }]]);
    const fresh = { listening: new Set<string>() };

    expect(planned(aSnapshot(job, aMachine({ state }), fresh))).toEqual(adopt);
    expect(planned(aSnapshot(job, aMachine({ state }), { ...fresh, hosts: unasked }))).toEqual(adopt);
    expect(planned(aSnapshot(job, aMachine({ state })))).toEqual([]);
  });

  test("that nobody knows is destroyed, and one that is known to be gone too", () => {
    const unknown = [{ kind: "destroyUnknown", machineId: M, host: "fake" }];
    const gone = aMachine({ state: "gone" });

    expect(planned(aSnapshot(undefined, undefined, { hosts: listing(running) }))).toEqual(unknown);
    expect(planned(aSnapshot(undefined, gone))).toEqual(unknown);
  });
});

describe("shutdown", () => {
  test("while draining, jobs go on and claimed ones still get machines", () => {
    const job = aJob({ state: "claimed" });

    expect(planned(aSnapshot(job, undefined, { mode: "drain" }))).toEqual(planned(aSnapshot(job, undefined)));
  });

  test.each(["claimed", "starting", "running"] as const)(
    "when jobs are to be ended, a %s job fails",
    (state) => {
      const job = aJob({ state });
      const machine = state === "claimed" ? undefined : aMachine({ state: "busy" });

      expect(planned(aSnapshot(job, machine, { mode: "end" }))).toEqual([
        failed("FireRunner was told to end, and its configuration ends running jobs then", "shutdown"),
      ]);
    },
  );
});

test("a machine that its host's disk ended is blamed on the host's disk, with what is known of it", () => {
  const words = "60 MiB were left for the disks of all machines, and this one held 3.4 GiB";

  expect(failureOfExit({ exit: "host-disk", words }, true)).toEqual({
    reason: `the disk of its host is full, so the machine was ended: ${words}`,
    cause: "host-disk",
  });
  expect(failureOfExit({ exit: "disk-error", words: "Input/output error" }, true)).toMatchObject({
    reason: expect.stringContaining(
      "did not take what the machine wrote, so it was ended: Input/output error",
    ),
    cause: "host-disk",
  });
});

test("a machine killed on a host without memory is blamed on memory", () => {
  expect(failureOfExit({ exit: "host-memory" }, true)).toMatchObject({
    reason: expect.stringContaining("its host's kernel has killed for want of memory"),
    cause: "memory",
  });
});

test("other ends are the machine's", () => {
  expect(failureOfExit({ exit: "crash" }, true)).toEqual({ reason: "the machine crashed", cause: "machine" });
  expect(failureOfExit({ exit: "orderly" }, false).reason).toContain("before it took the job");
});
