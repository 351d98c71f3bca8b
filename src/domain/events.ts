import type { FailureCause } from "./job-end.ts";
import type { JobResult } from "./states.ts";

/**
 * What happened, in the past tense. Events are rows of the store's append-only log and, after their commit, calls to the
 * listeners: the log, the CLI's `why` and the live feed all read the same thing. No event ever holds a secret.
 */
export interface EventDetails {
  /** `queuedMs`: how long it had been in GitLab's queue, where GitLab says. */
  "job:claimed": {
    pool: string;
    runner: string;
    name: string;
    project: string;
    pollMs: number;
    queuedMs?: number;
  };
  "job:starting": { machineId: string; attempt: number; host: string };
  "job:running": { machineId: string };
  /** The machine died before it had the payload; another will be tried. */
  "job:retried": { machineId: string; reason: string; attempt: number };
  /** `cause`, here and below, is missing in events of releases before. */
  "job:failing": { reason: string; cause?: FailureCause };
  /** `toldAt` (epoch ms): its runner told of the end, which GitLab has taken now; missing where it did not. */
  "job:finished": { result: JobResult; reason?: string; cause?: FailureCause; toldAt?: number };
  /** GitLab did not take our report of a failure; tried again at `retryAt` (epoch ms). */
  "job:report-failed": { error: string; retryAt: number };
  /** A job that waits in GitLab was noticed, before anybody claimed it. `hook` false: a webhook should have told of it. */
  "job:noticed": { project: string; name: string; tags: readonly string[]; hook: boolean };
  /** A job that waits in GitLab and asks for a machine of ours is left alone, and why. */
  "job:left-alone": { project: string; name: string; tags: readonly string[]; reason: string };
  /** A job noticed before waits no more: somebody else took it, it was canceled, or it is gone. */
  "job:no-longer-pending": Record<never, never>;
  "runner:creating": { key: string; pool: string; tags: readonly string[] };
  "runner:active": { key: string; runner: number; pool: string };
  "runner:retiring": { key: string; runner: number | null; reason: string };
  "runner:gone": { key: string; runner: number | null };
  /** `diskMib` is missing in events of releases that did not count it. */
  "machine:creating": { host: string; driver: string; cpus: number; memoryMib: number; diskMib?: number };
  /** Images of its job are fetched, or made into disks, before it is made. */
  "machine:fetching": Record<never, never>;
  /** Its job's images are here, after so long. */
  "machine:images-here": { tookMs: number };
  "machine:booting": Record<never, never>;
  /** First request of any kind from the guest. */
  "machine:heard": Record<never, never>;
  "machine:ready": Record<never, never>;
  "machine:busy": Record<never, never>;
  /** The guest told of its end: it powers off, or its host has started it again. */
  "machine:ended": { end: GuestEnd };
  "machine:stopping": { reason: string };
  "machine:gone": Record<never, never>;
  "machine:adopted": { state: string };
  "machine:create-failed": { error: string };
  "machine:destroy-failed": { error: string };
  /** The last lines a machine wrote before it was given up; secrets of its job are masked. */
  "machine:console": { text: string };
  /** The guest's kernel killed processes of a script that failed, for want of memory. */
  "machine:out-of-memory": { killed: number };
  /** A machine at the driver that the store does not know; destroyed. */
  "machine:unknown": { host: string };
  /** Somebody wants nothing new started on a host. `host` is its key (see placement.ts). */
  "host:drained": { host: string };
  "host:resumed": { host: string };
  /** Somebody had something changed: by the command line of this computer, or with a token of the API. */
  "operator:acted": { who: string; role: string; change: string };
  /** The guest asked the proxy for `target` (`host:port`), and its pool lets it. */
  "egress:asked": { target: string };
  /** As asked; the pool's list lacks the target, and has `audit` set. */
  "egress:unlisted": { target: string };
  "egress:connected": { target: string };
  /** It may be reached, and was not. */
  "egress:failed": { target: string; reason: string };
  /** Of a store written before asking and connecting were two things. */
  "egress:allowed": { target: string };
  "egress:refused": { target: string; reason: string };
  /** The guest broke a rule of the relay: wrong job, too fast, too large. */
  "guest:refused": { rule: string };
}

export type EventKind = keyof EventDetails;

/** One row of the log. `seq` grows; `at` is epoch ms; job and machine are what it is about, where known. */
export type LifecycleEvent = {
  [Kind in EventKind]: {
    readonly seq: number;
    readonly at: number;
    readonly kind: Kind;
    readonly jobId: number | null;
    readonly machineId: string | null;
    readonly detail: EventDetails[Kind];
  };
}[EventKind];

export type EventOf<Kind extends EventKind> = Extract<LifecycleEvent, { kind: Kind }>;

/** The last event of a kind in what is told oldest first. */
export function lastOf<Kind extends EventKind>(
  history: readonly LifecycleEvent[],
  kind: Kind,
): EventOf<Kind> | undefined {
  return history.findLast((event): event is EventOf<Kind> => event.kind === kind);
}

/**
 * What a guest on another host tells of its end, since its host may not. `orderly`: it is about to power off. `restarted`: it had
 * ended, and its host has started it again on its used disk.
 */
export type GuestEnd = "orderly" | "restarted";
