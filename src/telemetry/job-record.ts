import { type EventKind, type EventOf, type LifecycleEvent, lastOf } from "../domain/events.ts";
import type { FailureCause } from "../domain/job-end.ts";

/** What a job cost and how it ended: one line of the log. Milliseconds; a phase that did not happen is left out. */
export interface JobRecord {
  readonly jobId: number;
  readonly name: string;
  readonly project: string;
  readonly pool: string;
  readonly runner: string;
  readonly result: string;
  readonly reason?: string;
  /** What a failure is blamed on. */
  readonly cause?: FailureCause;
  /** The machine of the last attempt. */
  readonly machineId?: string;
  readonly host?: string;
  readonly driver?: string;
  readonly attempts: number;
  /** The trace that tells of it, where one is made. */
  readonly traceId?: string;
  readonly phases: JobPhases;
}

interface JobPhases {
  /** How long GitLab held the poll that brought the job. */
  readonly pollMs?: number;
  /** Claimed → the last attempt's machine was decided on; includes attempts before it. */
  readonly queuedMs?: number;
  /** → the hypervisor runs. */
  readonly createMs?: number;
  /** For the images that the job names; a part of the time above. */
  readonly imagesMs?: number;
  /** → the guest spoke. */
  readonly bootMs?: number;
  /** → its runner asked for the job. */
  readonly readyMs?: number;
  /** → it had the payload. */
  readonly handOverMs?: number;
  /** → GitLab acknowledged the end. */
  readonly runMs?: number;
  /** Acknowledged → the machine was gone. */
  readonly cleanupMs?: number;
  /** Claimed → acknowledged. */
  readonly totalMs?: number;
}

/** A guest may fill its job's history with other events. */
export const kindsOfRecord = [
  "job:claimed",
  "job:starting",
  "job:running",
  "job:finished",
  "machine:creating",
  "machine:images-here",
  "machine:booting",
  "machine:heard",
  "machine:ready",
  "machine:gone",
] as const satisfies readonly EventKind[];

/**
 * The record of a job whose story is complete: GitLab has its end and no machine of it is left. `closing` is the event that
 * completed it; undefined when the story is not complete, or when another event completed it, so that each job gets
 * exactly one record however late its events are looked at.
 */
export function composeJobRecord(
  history: readonly LifecycleEvent[],
  closing: LifecycleEvent,
): JobRecord | undefined {
  const claimed = lastOf(history, "job:claimed");
  const finished = lastOf(history, "job:finished");
  if (!claimed || !finished || closingEvent(history, finished)?.seq !== closing.seq) return undefined;
  const starting = lastOf(history, "job:starting");
  const { machineId, host } = starting?.detail ?? {};
  const { result, reason, cause } = finished.detail;
  return {
    jobId: finished.jobId ?? 0,
    name: claimed.detail.name,
    project: claimed.detail.project,
    pool: claimed.detail.pool,
    runner: claimed.detail.runner,
    result,
    ...(reason === undefined ? {} : { reason }),
    ...(cause === undefined ? {} : { cause }),
    ...(machineId === undefined ? {} : { machineId }),
    ...(host === undefined ? {} : { host }),
    ...driverOf(history, machineId),
    attempts: starting?.detail.attempt ?? 0,
    phases: phasesOf(history, claimed, finished, machineId),
  };
}

function driverOf(history: readonly LifecycleEvent[], machineId: string | undefined): { driver?: string } {
  const own = history.filter((event) => machineId !== undefined && event.machineId === machineId);
  const made = lastOf(own, "machine:creating");
  return made === undefined ? {} : { driver: made.detail.driver };
}

/** The event after which nothing more comes; undefined while a machine of the job is left. */
function closingEvent(
  history: readonly LifecycleEvent[],
  finished: EventOf<"job:finished">,
): LifecycleEvent | undefined {
  const made = new Set(
    history.filter(({ kind }) => kind === "machine:creating").map((event) => event.machineId),
  );
  const gone = history.filter(({ kind }) => kind === "machine:gone");
  if (gone.length < made.size) return undefined;
  return [finished, ...gone].reduce((latest, event) => (event.seq > latest.seq ? event : latest));
}

function phasesOf(
  history: readonly LifecycleEvent[],
  claimed: EventOf<"job:claimed">,
  finished: EventOf<"job:finished">,
  machineId: string | undefined,
): JobPhases {
  const own = history.filter((event) => event.machineId === machineId);
  const startingAt = lastOf(history, "job:starting")?.at;
  const [bootingAt, heardAt, readyAt] = (["machine:booting", "machine:heard", "machine:ready"] as const).map(
    (kind) => lastOf(own, kind)?.at,
  );
  const runningAt = lastOf(history, "job:running")?.at;
  const phases: Record<keyof JobPhases, number | undefined> = {
    pollMs: claimed.detail.pollMs,
    queuedMs: between(claimed.at, startingAt),
    imagesMs: lastOf(own, "machine:images-here")?.detail.tookMs,
    createMs: between(startingAt, bootingAt),
    bootMs: between(bootingAt, heardAt),
    readyMs: between(heardAt, readyAt),
    handOverMs: between(readyAt, runningAt),
    runMs: between(runningAt, finished.at),
    cleanupMs: between(finished.at, lastOf(own, "machine:gone")?.at),
    totalMs: between(claimed.at, finished.at),
  };
  return Object.fromEntries(Object.entries(phases).filter(([, ms]) => ms !== undefined));
}

/** A machine may be gone before GitLab has acknowledged: that cleaning cost the job nothing. */
function between(from: number | undefined, to: number | undefined): number | undefined {
  return from === undefined || to === undefined ? undefined : Math.max(0, to - from);
}
