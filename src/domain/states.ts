/**
 * The tables every state change obeys. `store/` is the only writer, by compare-and-set against these tables; the
 * diagrams in ARCHITECTURE.md are generated from them (`npm run docs`).
 */

/** A job's states. Reasons for each are in ARCHITECTURE.md. */
export const jobMoves = {
  /** GitLab gave it to us; payload stored (encrypted); its slot is taken. */
  claimed: ["starting", "failing", "finished"],
  /** A machine has been created for it. Back to `claimed` when that machine dies before it has the payload. */
  starting: ["running", "claimed", "failing", "finished"],
  /** The guest has the payload. */
  running: ["finished", "failing"],
  /** We must tell GitLab that it failed, and why, until GitLab acknowledges. */
  failing: ["finished"],
  /** GitLab has acknowledged the end. The payload is erased. */
  finished: [],
} as const;

export type JobState = keyof typeof jobMoves;
export const jobStates = Object.keys(jobMoves) as [JobState, ...JobState[]];

/** A machine's states. */
export const machineMoves = {
  /** The driver has been, or is about to be, asked. */
  creating: ["booting", "stopping"],
  /** Its process runs; the guest has not been heard. */
  booting: ["ready", "stopping"],
  /** The guest asked for work. */
  ready: ["busy", "stopping"],
  /** The payload was handed over. */
  busy: ["stopping"],
  /** To be destroyed, with a reason. */
  stopping: ["gone"],
  /** Process, disks, sockets: all gone. */
  gone: [],
} as const;

export type MachineState = keyof typeof machineMoves;

/** The states of a GitLab runner that we make and delete. */
export const runnerMoves = {
  /** GitLab has been, or is about to be, asked for it; no token yet. */
  creating: ["active", "retiring", "gone"],
  /** It exists, we hold its token, jobs may be claimed through it. */
  active: ["retiring"],
  /** To be deleted in GitLab as soon as none of its jobs is unfinished. Nothing is claimed through it any more. */
  retiring: ["gone"],
  /** Deleted in GitLab, or never made there. */
  gone: [],
} as const;

export type RunnerState = keyof typeof runnerMoves;

jobMoves satisfies Record<JobState, readonly JobState[]>;
machineMoves satisfies Record<MachineState, readonly MachineState[]>;
runnerMoves satisfies Record<RunnerState, readonly RunnerState[]>;

/** Jobs we still owe GitLab an end for. */
export const unfinishedJobStates: readonly JobState[] = ["claimed", "starting", "running", "failing"];

/** Jobs that hold a slot: the machine they have or will need. A failing job needs no machine any more. */
export const slotHoldingJobStates: readonly JobState[] = ["claimed", "starting", "running"];

/** Machines that hold memory and CPU on a host: all that are not proven gone. */
export const occupyingMachineStates: readonly MachineState[] = [
  "creating",
  "booting",
  "ready",
  "busy",
  "stopping",
];

/** Runners that may exist in GitLab: all that are not proven gone. */
export const liveRunnerStates: readonly RunnerState[] = ["creating", "active", "retiring"];

export function canMoveJob(from: JobState, to: JobState): boolean {
  return (jobMoves[from] as readonly JobState[]).includes(to);
}

export function canMoveMachine(from: MachineState, to: MachineState): boolean {
  return (machineMoves[from] as readonly MachineState[]).includes(to);
}

/** The states from which `to` may be reached: the `where state in (…)` of a compare-and-set. */
export function jobSourcesOf(to: JobState): JobState[] {
  return (Object.keys(jobMoves) as JobState[]).filter((from) => canMoveJob(from, to));
}

export function machineSourcesOf(to: MachineState): MachineState[] {
  return (Object.keys(machineMoves) as MachineState[]).filter((from) => canMoveMachine(from, to));
}

export function canMoveRunner(from: RunnerState, to: RunnerState): boolean {
  return (runnerMoves[from] as readonly RunnerState[]).includes(to);
}

export function runnerSourcesOf(to: RunnerState): RunnerState[] {
  return (Object.keys(runnerMoves) as RunnerState[]).filter((from) => canMoveRunner(from, to));
}

/** How a job ended, as GitLab has it. `unknown`: GitLab no longer accepts the job and did not say why. */
export const jobResults = ["success", "failed", "canceled", "unknown"] as const;
export type JobResult = (typeof jobResults)[number];
