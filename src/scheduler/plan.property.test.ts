import fc from "fast-check";
import { expect, test } from "vitest";
import { aHostCapacity } from "../../test/builders/host-capacity.ts";
import { aJob, someTime } from "../../test/builders/job.ts";
import { aMachine } from "../../test/builders/machine.ts";
import { canMoveJob, canMoveMachine, type JobState, type MachineState } from "../domain/states.ts";
import type { Job, Machine } from "../store/store.ts";
import type { DriverMachine, ExitKind, MachineStatus } from "../vm/driver.ts";
import { SchedulerConfig } from "./config.ts";
import { type Action, plan } from "./plan.ts";
import type { Snapshot } from "./snapshot.ts";

/**
 * From whatever state the rows and the host are in, doing what is planned, again and again, ends with every job finished and every
 * machine gone. Guests do nothing at all here: whoever does not report is failed, so that the end depends on the plan alone.
 */
const policy = SchedulerConfig.parse({});
const capacity = { cpus: 3, memoryMib: 4_096, machines: 3 };

interface World {
  now: number;
  readonly jobs: Map<number, Job>;
  readonly machines: Map<string, Machine>;
  readonly host: Map<string, MachineStatus>;
  readonly listening: Set<string>;
  listFails: boolean;
  created: number;
}

const exitKind = fc.constantFrom<ExitKind>("orderly", "crash", "killed", "lost");
const atHost = fc.oneof(
  fc.constant<MachineStatus>({ running: true, startedAt: someTime }),
  exitKind.map((exit): MachineStatus => ({ running: false, exit })),
  fc.constant(undefined),
);

/** A job in any state with the machine that belongs to it, in any state it can be in, and whatever is left of it at the host. */
const situation = fc.record({
  job: fc.constantFrom<JobState>("claimed", "starting", "running", "failing", "finished"),
  attempt: fc.integer({ min: 1, max: 3 }),
  machine: fc.constantFrom<MachineState>("creating", "booting", "ready", "busy", "stopping", "gone"),
  atHost,
  relay: fc.boolean(),
  age: fc.integer({ min: 0, max: 2_000_000 }),
});
type Situation = typeof situation extends fc.Arbitrary<infer Value> ? Value : never;

function worldOf(situations: readonly Situation[], unknown: readonly MachineStatus[]): World {
  const world: World = {
    now: someTime + 3_000_000,
    jobs: new Map(),
    machines: new Map(),
    host: new Map(unknown.map((status, index) => [`fr-strange${index + 2}`, status])),
    listening: new Set(),
    listFails: false,
    created: 0,
  };
  situations.forEach((each, index) => {
    const id = index + 1;
    const machineId = `fr-aaaaaaa${"bcdefghij"[index]}`;
    // A running job had its payload handed to a machine that was busy then.
    const machineState =
      each.job === "running" && !["stopping", "gone"].includes(each.machine) ? "busy" : each.machine;
    const hasMachine = each.job !== "claimed";
    const machine = hasMachine ? { machineId, attempt: each.attempt } : { machineId: null };
    world.jobs.set(id, aJob({ id, state: each.job, claimedAt: world.now - each.age, ...machine }));
    world.machines.set(machineId, aMachine({ id: machineId, jobId: id, state: machineState }));
    if (machineState !== "gone" && each.atHost) world.host.set(machineId, each.atHost);
    if (each.relay) world.listening.add(machineId);
  });
  return world;
}

function look(world: World): Snapshot {
  const machines = [...world.machines.values()];
  const jobs = [...world.jobs.values()].filter(({ state }) => state !== "finished");
  const referred = new Set(jobs.map(({ machineId }) => machineId));
  const listed = [...world.host].map(([id, status]): DriverMachine => ({ id, status }));
  return {
    jobs,
    machines: machines.filter(({ id, state }) => state !== "gone" || referred.has(id)),
    hosts: new Map([
      ["fake", { listed: world.listFails ? undefined : listed, capacity: aHostCapacity({ capacity }) }],
    ]),
    settled: new Set(
      machines.filter(({ state }) => ["booting", "ready", "busy"].includes(state)).map(({ id }) => id),
    ),
    pools: new Map([["small", { driver: "fake", image: "base", hostLabels: {} }]]),
    listening: world.listening,
    heardAt: new Map(),
    statusAt: new Map(),
    ends: new Map(),
    recheckAt: new Map(),
    starting: new Map(),
    avoidedHosts: new Map(),
    fetchedMs: new Map(),
    placement: "spread",
    since: someTime,
    mode: "run",
  };
}

function moveJob(world: World, id: number, state: JobState, more: Partial<Job> = {}): void {
  const job = world.jobs.get(id);
  if (!job || !canMoveJob(job.state, state)) throw new Error(`job ${id}: ${job?.state} → ${state}`);
  world.jobs.set(id, { ...job, state, ...more });
}

function moveMachine(world: World, id: string, state: MachineState, more: Partial<Machine> = {}): void {
  const machine = world.machines.get(id);
  if (!machine || !canMoveMachine(machine.state, state))
    throw new Error(`machine ${id}: ${machine?.state} → ${state}`);
  world.machines.set(id, { ...machine, state, ...more });
}

type Effects = {
  [Kind in Action["kind"]]: (world: World, action: Extract<Action, { kind: Kind }>, fails: boolean) => void;
};

/** What an action does when all goes well, and when driver or GitLab refuse. A move that is not allowed throws. */
const effects: Effects = {
  startMachine(world, { jobId }) {
    const id = `fr-new${String(++world.created).padStart(5, "0")}`;
    const attempt = (world.jobs.get(jobId)?.attempt ?? 0) + 1;
    moveJob(world, jobId, "starting", { machineId: id, attempt, startingAt: world.now });
    world.machines.set(id, aMachine({ id, jobId, state: "creating", createdAt: world.now }));
  },
  create(world, { machineId }, fails) {
    const reason = "it could not be started";
    if (fails) moveMachine(world, machineId, "stopping", { reason });
    else moveMachine(world, machineId, "booting", { bootingAt: world.now });
    world.listening.add(machineId);
    if (!world.host.has(machineId))
      world.host.set(machineId, { running: !fails, startedAt: world.now, exit: "lost" });
  },
  adopt(world, { machineId }) {
    world.listening.add(machineId);
  },
  stopMachine(world, { machineId, reason }) {
    moveMachine(world, machineId, "stopping", { reason });
  },
  destroy(world, { machineId }, fails) {
    if (fails) return;
    world.host.delete(machineId);
    world.listening.delete(machineId);
    moveMachine(world, machineId, "gone");
  },
  destroyUnknown(world, { machineId }, fails) {
    if (!fails) world.host.delete(machineId);
  },
  retryJob(world, { jobId, counts }) {
    const attempt = (world.jobs.get(jobId)?.attempt ?? 0) - (counts ? 0 : 1);
    moveJob(world, jobId, "claimed", { machineId: null, attempt });
  },
  failJob(world, { jobId, reason }) {
    moveJob(world, jobId, "failing", { reason, reportAt: world.now });
  },
  report(world, { jobId }, fails) {
    const job = world.jobs.get(jobId) as Job;
    if (fails) world.jobs.set(jobId, { ...job, reportAt: world.now + 1_000 });
    else moveJob(world, jobId, "finished");
  },
  checkStatus() {},
};

function perform<Kind extends Action["kind"]>(
  world: World,
  action: Extract<Action, { kind: Kind }>,
  fails: boolean,
) {
  (effects[action.kind as Kind] as Effects[Kind])(world, action, fails);
}

function isAtEnd({ jobs, machines, host }: World): boolean {
  const areOver = [...jobs.values()].every(({ state }) => state === "finished");
  return areOver && [...machines.values()].every(({ state }) => state === "gone") && host.size === 0;
}

/** What must hold in every round, whatever the world does. */
function checkRound(world: World, actions: readonly Action[]): void {
  for (const action of actions) {
    if ("jobId" in action) expect(world.jobs.get(action.jobId)?.state).not.toBe("finished");
    if (action.kind === "startMachine") expect(world.jobs.get(action.jobId)?.state).toBe("claimed");
    if (action.kind === "retryJob") expect(world.jobs.get(action.jobId)?.state).toBe("starting");
    if (action.kind === "destroyUnknown")
      expect(world.machines.get(action.machineId)?.state ?? "gone").toBe("gone");
    else if (!("jobId" in action)) expect(world.machines.get(action.machineId)?.state).not.toBe("gone");
  }
  // Asking GitLab and doing something for the job go side by side; a retry is about its job.
  const exclusive = actions.filter(({ kind }) => kind !== "checkStatus");
  const about = (wanted: "jobId" | "machineId") =>
    exclusive.flatMap((action) =>
      action.kind !== "retryJob" && wanted in action ? [action[wanted as never]] : [],
    );
  expect(new Set(about("jobId")).size).toBe(about("jobId").length);
  expect(new Set(about("machineId")).size).toBe(about("machineId").length);
}

test("whatever the situation, doing what is planned ends every job and leaves no machine", () => {
  const faults = fc.array(fc.boolean(), { maxLength: 60 });
  fc.assert(
    fc.property(
      fc.array(situation, { maxLength: 5 }),
      fc.array(atHost, { maxLength: 2 }),
      faults,
      (all, strange, fates) => {
        const world = worldOf(
          all,
          strange.filter((status) => status !== undefined),
        );
        let fate = 0;
        for (let round = 0; round < 400 && !isAtEnd(world); round++) {
          world.listFails = fates[fate++] ?? false;
          const actions = plan(look(world), policy, world.now);
          checkRound(world, actions);
          for (const action of actions) perform(world, action, fates[fate++] ?? false);
          for (const { attempt } of world.jobs.values()) expect(attempt).toBeLessThanOrEqual(policy.attempts);
          world.now += 30_000;
        }
        expect(isAtEnd(world)).toBe(true);
      },
    ),
    { numRuns: 400 },
  );
});

test("planning is pure: the same snapshot gives the same plan, and is not changed by it", () => {
  fc.assert(
    fc.property(fc.array(situation, { maxLength: 5 }), (all) => {
      const snapshot = look(worldOf(all, []));
      const copy = structuredClone(snapshot);
      const first = plan(snapshot, policy, someTime + 3_000_000);

      expect(plan(snapshot, policy, someTime + 3_000_000)).toEqual(first);
      expect(snapshot).toEqual(copy);
    }),
    { numRuns: 100 },
  );
});
