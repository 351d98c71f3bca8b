import type { MicroVMSpec, MicroVMStatus_State } from "../../src/vm/flintlock/gen/types_pb.js";

export interface StoredMachine {
  readonly uid: string;
  readonly spec: MicroVMSpec;
  readonly version: number;
  readonly state: MicroVMStatus_State;
  readonly retry: number;
  /** No step before this time; 0 when nothing has failed yet. */
  readonly notBeforeAt: number;
}

/** What containerd keeps of the machines: it outlives the daemon. */
export interface Content {
  get(uid: string): StoredMachine | undefined;
  all(): StoredMachine[];
  /** Every save is a new version. */
  save(machine: Omit<StoredMachine, "version">): StoredMachine;
  remove(uid: string): void;
  clear(): void;
}

export function createContent(): Content {
  const machines = new Map<string, StoredMachine>();
  return {
    get: (uid) => machines.get(uid),
    all: () => [...machines.values()],
    save(machine) {
      const saved = { ...machine, version: (machines.get(machine.uid)?.version ?? 0) + 1 };
      machines.set(machine.uid, saved);
      return saved;
    },
    remove: (uid) => void machines.delete(uid),
    clear: () => machines.clear(),
  };
}
