import { describe, expect, test } from "vitest";
import { aHostCapacity } from "../../test/builders/host-capacity.ts";
import { aJob, someTime } from "../../test/builders/job.ts";
import { aMachine } from "../../test/builders/machine.ts";
import { aSize } from "../../test/builders/size.ts";
import type { GuestEnd } from "../domain/events.ts";
import type { FailureCause } from "../domain/job-end.ts";
import type { Job, Machine } from "../store/store.ts";
import type { DriverMachine, ExitKind } from "../vm/driver.ts";
import { SchedulerConfig } from "./config.ts";
import { type Action, failureOfExit, plan } from "./plan.ts";
import type { Snapshot } from "./snapshot.ts";

const policy = SchedulerConfig.parse({});
const now = someTime + 10_000;
const M = "fr-aaaaaaaa";
const running: DriverMachine["status"] = { running: true, startedAt: someTime };

function ended(exit: ExitKind): DriverMachine["status"] {
  return { running: false, exit };
}

function listing(status: DriverMachine["status"] | undefined, id = M): Snapshot["hosts"] {
  return new Map([["fake", { listed: status ? [{ id, status }] : [], capacity: aHostCapacity() }]]);
}

/** One job and its machine, everything in order and quiet; GitLab has just spoken of the job. */
function aSnapshot(
  job: Job | undefined,
  machine: Machine | undefined,
  more: Partial<Snapshot> = {},
): Snapshot {
  return {
    jobs: job ? [job] : [],
    machines: machine ? [machine] : [],
    hosts: listing(machine ? running : undefined),
    settled: new Set(machine && machine.state !== "creating" ? [machine.id] : []),
    pools: new Map([["small", { driver: "fake", image: "base", hostLabels: {} }]]),
    listening: new Set(machine ? [machine.id] : []),
    heardAt: new Map(machine ? [[machine.id, now]] : []),
    statusAt: new Map(job ? [[job.id, now]] : []),
    ends: new Map(),
    recheckAt: new Map(),
    starting: new Map(),
    avoidedHosts: new Map(),
    fetchedMs: new Map(),
    placement: "spread",
    since: someTime - 1_000,
    mode: "run",
    ...more,
  };
}

function planned(snapshot: Snapshot, at = now): Action[] {
  return plan(snapshot, policy, at);
}

const failed = (reason: unknown, cause: FailureCause = "machine") => ({
  kind: "failJob",
  jobId: 4711,
  reason,
  cause,
});
const neverThere = { bootingAt: null, heardAt: null };
const retried = (reason: unknown, counts = true) => ({
  ...{ kind: "retryJob", jobId: 4711, machineId: M, reason, counts },
});

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
