import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { aClaim } from "../../test/builders/job.ts";
import { aNewMachine } from "../../test/builders/machine.ts";
import { aStore } from "../../test/builders/store.ts";
import type { LifecycleEvent } from "../domain/events.ts";
import {
  canMoveJob,
  canMoveMachine,
  type JobState,
  jobMoves,
  type MachineState,
  machineMoves,
} from "../domain/states.ts";
import type { Store } from "./store.ts";

const jobIds = [1, 2];
const jobId = fc.constantFrom(...jobIds);
const result = fc.constantFrom("success" as const, "failed" as const, "canceled" as const);

/** A call of the store, whatever the state it meets. */
type Call = (store: Store) => Promise<boolean>;

/** A machine: mostly the one that `job` has now, sometimes one of an earlier attempt or of the other job. */
const machineOf = fc.tuple(jobId, fc.option(fc.nat(2), { freq: 2 }));

async function machineId(store: Store, [job, other]: [number, number | null]): Promise<string> {
  const own = other === null ? (await store.job(job))?.machineId : undefined;
  return own ?? nthMachine(other ?? 0);
}

function nthMachine(index: number): string {
  return `fr-machine${index}`;
}

/** The next machine id, or now and then one that has been used. */
async function startJob(store: Store, job: number, reused: number | null): Promise<boolean> {
  const id = nthMachine(reused ?? (await store.machines()).length);
  return await store.startJob(job, aNewMachine({ id }));
}

const onJob: readonly Call[] = jobIds.flatMap((id) => [
  (store: Store) => store.retryJob(id, "died"),
  (store: Store) => store.addTraceHead(id, "line\n"),
  (store: Store) => store.failJob(id, { reason: "died", cause: "machine" }),
]);

/** Calls that change a row and move nothing. */
const bookkeeping: readonly Call[] = jobIds.flatMap((id) => [
  (store: Store) => store.setTraceSize(id, 7).then(() => true),
  (store: Store) => store.postponeReport(id, 99, "not now").then(() => true),
]);

function onMachine(change: (store: Store, id: string) => Promise<boolean>): fc.Arbitrary<Call> {
  return machineOf.map((chosen) => async (store: Store) => change(store, await machineId(store, chosen)));
}

const call: fc.Arbitrary<Call> = fc.oneof(
  {
    weight: 2,
    arbitrary: jobId.map((id) => (store: Store) => store.claim(aClaim({ jobId: id, payload: "{}" }))),
  },
  {
    weight: 3,
    arbitrary: fc.tuple(jobId, fc.option(fc.nat(2), { freq: 3 })).map(
      ([id, reused]) =>
        (store: Store) =>
          startJob(store, id, reused),
    ),
  },
  {
    weight: 3,
    arbitrary: fc.tuple(jobId, machineOf).map(
      ([id, chosen]) =>
        async (store: Store) =>
          store.handOver(id, await machineId(store, chosen)),
    ),
  },
  { weight: 4, arbitrary: onMachine((store, id) => store.markBooting(id)) },
  { weight: 2, arbitrary: onMachine((store, id) => store.markReady(id)) },
  { weight: 1, arbitrary: onMachine((store, id) => store.markHeard(id)) },
  { weight: 1, arbitrary: onMachine((store, id) => store.stopMachine(id, "done")) },
  { weight: 2, arbitrary: onMachine((store, id) => store.markGone(id)) },
  { weight: 2, arbitrary: fc.constantFrom(...onJob) },
  {
    weight: 1,
    arbitrary: fc.tuple(jobId, result).map(
      ([id, end]) =>
        (store: Store) =>
          store.finishJob(id, end),
    ),
  },
);

async function everything(store: Store) {
  return {
    jobs: await store.jobs(),
    machines: await store.machines(),
    events: await store.events({}),
    payloads: await Promise.all(jobIds.map((id) => store.payload(id))),
  };
}

/** The states that the log says something went through; a retry is a job's way back to `claimed`. */
function statesOf<State extends string>(
  events: readonly LifecycleEvent[],
  moves: Record<State, unknown>,
): State[] {
  const states = events.map((event) => (event.kind === "job:retried" ? "claimed" : event.kind.split(":")[1]));
  return states.filter((state): state is State => state !== undefined && state in moves);
}

function isWalk<State>(states: readonly State[], mayMove: (from: State, to: State) => boolean): boolean {
  return states.slice(1).every((to, index) => mayMove(states[index] as State, to));
}

describe("moves", () => {
  test("whatever is called in whatever order, only moves of the tables are made, and the log tells them", async () => {
    const property = fc.asyncProperty(fc.array(call, { maxLength: 60 }), async (calls) => {
      await using made = await aStore();
      const { store } = made;
      for (const each of calls) await each(store);

      for (const job of await store.jobs()) {
        const ofJob = (await store.events({ jobId: job.id })).filter((event) =>
          event.kind.startsWith("job:"),
        );
        const states = statesOf<JobState>(ofJob, jobMoves);
        expect(isWalk(states, canMoveJob)).toBe(true);
        expect([states[0], states.at(-1)]).toEqual(["claimed", job.state]);
        expect(job.attempt).toBe(states.filter((state) => state === "starting").length);
        expect(states.filter((state) => state === "running").length).toBeLessThanOrEqual(1);
        expect((await store.payload(job.id)) === undefined).toBe(job.state === "finished");
      }
      for (const machine of await store.machines()) {
        const ofMachine = (await store.events({ machineId: machine.id })).filter((event) =>
          event.kind.startsWith("machine:"),
        );
        const states = statesOf<MachineState>(ofMachine, machineMoves);
        expect(isWalk(states, canMoveMachine)).toBe(true);
        expect([states[0], states.at(-1)]).toEqual(["creating", machine.state]);
      }
    });

    await fc.assert(property, { numRuns: 60 });
  });

  test("a running job has exactly one busy or ending machine, its own", async () => {
    const property = fc.asyncProperty(fc.array(call, { maxLength: 60 }), async (calls) => {
      await using made = await aStore();
      const { store } = made;
      for (const each of calls) await each(store);

      const machines = await store.machines();
      for (const job of await store.jobs()) {
        const served = machines.filter((machine) => machine.jobId === job.id && machine.busyAt !== null);
        expect(served.map((machine) => machine.id)).toEqual(job.runningAt === null ? [] : [job.machineId]);
        const waiting = machines.filter(
          (machine) => machine.jobId === job.id && ["creating", "booting", "ready"].includes(machine.state),
        );
        expect(waiting.every((machine) => machine.id === job.machineId)).toBe(true);
      }
    });

    await fc.assert(property, { numRuns: 60 });
  });

  test("what is answered from memory is what the database has, after every call", async () => {
    const more = fc.oneof(
      { weight: 4, arbitrary: call },
      { weight: 1, arbitrary: fc.constantFrom(...bookkeeping) },
    );
    const property = fc.asyncProperty(fc.array(more, { maxLength: 60 }), async (calls) => {
      await using made = await aStore();
      const { store } = made;
      for (const each of calls) {
        await each(store);

        const [jobs, machines] = [await store.jobs(), await store.machines()];
        const live = machines.filter(({ state }) => state !== "gone");
        expect(await store.jobs({ unfinished: true })).toEqual(
          jobs.filter(({ state }) => state !== "finished"),
        );
        expect(await store.machines({ live: true })).toEqual(live);
        expect(await Promise.all(jobs.map(({ id }) => store.job(id)))).toEqual(jobs);
        expect(await Promise.all(machines.map(({ id }) => store.machine(id)))).toEqual(machines);
      }
    });

    await fc.assert(property, { numRuns: 40 });
  });

  test("a refused call changes nothing at all", async () => {
    const property = fc.asyncProperty(fc.array(call, { maxLength: 40 }), async (calls) => {
      await using made = await aStore();
      const { store } = made;
      for (const each of calls) {
        const before = await everything(store);
        const moved = await each(store);
        if (!moved) expect(await everything(store)).toEqual(before);
      }
    });

    await fc.assert(property, { numRuns: 60 });
  });
});
