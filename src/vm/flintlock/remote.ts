import type { ListedMicroVM } from "./gen/service_pb.js";
import { type MicroVM, MicroVMStatus_State } from "./gen/types_pb.js";
import { ulidTime } from "./ulid.ts";

/** `created` says that a process was started, nothing more; `deleting` may yet turn back into `created`. */
type RemoteState = "pending" | "created" | "failed" | "deleting";

/** A machine as flintlockd shows it. */
export interface RemoteMachine {
  /** Our machine id. Several machines may have the same. */
  readonly id: string;
  /** flintlockd's own; newer ones sort after older ones. */
  readonly uid: string;
  readonly state: RemoteState;
  /** How often making it has failed so far. Why is told nowhere. */
  readonly retry: number;
  /** By the host's clock. */
  readonly madeAt: number | undefined;
}

const states: Readonly<Record<MicroVMStatus_State, RemoteState>> = {
  [MicroVMStatus_State.PENDING]: "pending",
  [MicroVMStatus_State.CREATED]: "created",
  [MicroVMStatus_State.FAILED]: "failed",
  [MicroVMStatus_State.DELETING]: "deleting",
};

/** Undefined for a machine without a name, which nobody can ask for. */
export function remoteMachine({ spec, status }: MicroVM | ListedMicroVM): RemoteMachine | undefined {
  if (!spec?.uid) return undefined;
  const state = states[status?.state ?? MicroVMStatus_State.PENDING] ?? "pending";
  return { id: spec.id, uid: spec.uid, state, retry: status?.retry ?? 0, madeAt: ulidTime(spec.uid) };
}

/** As far as flintlockd shows: a guest that has ended still counts, and only the relay notices. */
export function isRunning({ state }: RemoteMachine): boolean {
  return state === "pending" || state === "created";
}

/** Something that the daemon's one worker still has to do. */
export function isWaiting({ state }: RemoteMachine): boolean {
  return state === "pending" || state === "deleting";
}

/** All machines by our id; under each the newest first. */
export function byId(machines: readonly RemoteMachine[]): ReadonlyMap<string, readonly RemoteMachine[]> {
  const newestFirst = machines.toSorted((a, b) => (a.uid < b.uid ? 1 : -1));
  return Map.groupBy(newestFirst, ({ id }) => id);
}
