import type { MachineState } from "../../src/domain/states.ts";
import type { Machine, NewMachine } from "../../src/store/store.ts";
import { someTime } from "./job.ts";
import { aSize } from "./size.ts";

const heard: Partial<Machine> = { bootingAt: someTime + 1_200, heardAt: someTime + 2_500 };

/** What a machine row says by virtue of its state. */
const byState: Record<MachineState, Partial<Machine>> = {
  creating: {},
  booting: { bootingAt: someTime + 1_200 },
  ready: { ...heard, readyAt: someTime + 2_900 },
  busy: { ...heard, readyAt: someTime + 2_900, busyAt: someTime + 3_000 },
  stopping: { ...heard, stoppingAt: someTime + 5_000, reason: "its job has ended" },
  gone: { ...heard, stoppingAt: someTime + 5_000, goneAt: someTime + 5_500, reason: "its job has ended" },
};

/** A machine row that makes sense for its state (`creating` unless said), made for job 4711. */
export function aMachine(overrides: Partial<Machine> = {}): Machine {
  const state = overrides.state ?? "creating";
  return {
    ...aNewMachine(),
    jobId: 4711,
    state,
    reason: null,
    cause: null,
    createdAt: someTime + 1_000,
    bootingAt: null,
    heardAt: null,
    readyAt: null,
    busyAt: null,
    stoppingAt: null,
    goneAt: null,
    ...byState[state],
    ...overrides,
  };
}

/** A machine about to be created. */
export function aNewMachine(overrides: Partial<NewMachine> = {}): NewMachine {
  return {
    id: "fr-aaaaaaaa",
    pool: "small",
    driver: "fake",
    host: "local",
    image: `sha256:${"0".repeat(64)}`,
    size: aSize(),
    ...overrides,
  };
}
