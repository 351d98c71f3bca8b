import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  canMoveJob,
  canMoveMachine,
  jobMoves,
  jobSourcesOf,
  machineMoves,
  machineSourcesOf,
  occupyingMachineStates,
  runnerMoves,
  runnerSourcesOf,
  slotHoldingJobStates,
  unfinishedJobStates,
} from "./states.ts";

type Moves = Readonly<Record<string, readonly string[]>>;

const tables: Readonly<Record<string, { moves: Moves; start: string; end: string }>> = {
  job: { moves: jobMoves, start: "claimed", end: "finished" },
  machine: { moves: machineMoves, start: "creating", end: "gone" },
  runner: { moves: runnerMoves, start: "creating", end: "gone" },
};

/** Everything that can be reached from `state`, itself included. */
function reachable(moves: Moves, state: string): Set<string> {
  const found = new Set([state]);
  for (const from of found) for (const to of moves[from] ?? []) found.add(to);
  return found;
}

describe.each(Object.entries(tables))("%s states", (_name, { moves, start, end }) => {
  const states = Object.keys(moves);

  test("every state can be reached from the first", () => {
    expect([...reachable(moves, start)].toSorted()).toEqual(states.toSorted());
  });

  test("every state can reach the end, and nothing leads out of it", () => {
    for (const state of states) expect(reachable(moves, state)).toContain(end);
    expect(moves[end]).toEqual([]);
  });

  test("only the end has no way out, and no state leads to itself", () => {
    const dead = states.filter((state) => moves[state]?.length === 0);
    const loops = states.filter((state) => moves[state]?.includes(state));

    expect(dead).toEqual([end]);
    expect(loops).toEqual([]);
  });

  test("a walk that always chooses at random ends, however it chooses", () => {
    const choices = fc.infiniteStream(fc.nat());
    fc.assert(
      fc.property(choices, (stream) => {
        let state = start;
        for (let step = 0; step < 1_000 && state !== end; step++) {
          const next = moves[state] ?? [];
          state = next[stream.next().value % next.length] ?? end;
        }
        return state === end;
      }),
      { numRuns: 50 },
    );
  });
});

describe("sources", () => {
  test("a job's sources are its moves read backwards", () => {
    for (const [from, targets] of Object.entries(jobMoves)) {
      for (const to of Object.keys(jobMoves) as (keyof typeof jobMoves)[]) {
        const listed = (targets as readonly string[]).includes(to);
        expect(jobSourcesOf(to).includes(from as keyof typeof jobMoves)).toBe(listed);
        expect(canMoveJob(from as keyof typeof jobMoves, to)).toBe(listed);
      }
    }
  });

  test("a machine's sources are its moves read backwards", () => {
    for (const [from, targets] of Object.entries(machineMoves)) {
      for (const to of Object.keys(machineMoves) as (keyof typeof machineMoves)[]) {
        const listed = (targets as readonly string[]).includes(to);
        expect(machineSourcesOf(to).includes(from as keyof typeof machineMoves)).toBe(listed);
        expect(canMoveMachine(from as keyof typeof machineMoves, to)).toBe(listed);
      }
    }
  });

  test("a runner's sources are its moves read backwards", () => {
    for (const [from, targets] of Object.entries(runnerMoves)) {
      for (const to of Object.keys(runnerMoves) as (keyof typeof runnerMoves)[]) {
        const listed = (targets as readonly string[]).includes(to);
        expect(runnerSourcesOf(to).includes(from as keyof typeof runnerMoves)).toBe(listed);
      }
    }
  });
});

describe("named sets", () => {
  test("all jobs but the finished are owed an end, and all machines but the gone occupy their host", () => {
    expect(Object.keys(jobMoves).filter((state) => !unfinishedJobStates.includes(state as never))).toEqual([
      "finished",
    ]);
    expect(
      Object.keys(machineMoves).filter((state) => !occupyingMachineStates.includes(state as never)),
    ).toEqual(["gone"]);
  });

  test("a job that holds a slot is unfinished and can still run", () => {
    for (const state of slotHoldingJobStates) {
      expect(unfinishedJobStates).toContain(state);
      expect(reachable(jobMoves, state)).toContain("running");
    }
  });

  test("a job that has the payload in a machine is never started again", () => {
    expect(reachable(jobMoves, "running")).not.toContain("claimed");
    expect(reachable(jobMoves, "failing")).not.toContain("starting");
  });
});
