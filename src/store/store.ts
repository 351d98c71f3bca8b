/**
 * What FireRunner keeps across restarts, as ports: jobs, machines, hosts and the log of events here, what is kept of webhooks and
 * the runners that we make in jobs-by-tag.ts. `Store` is all of them in one database. create-store.ts opens it: sqlite.ts has the file and
 * its schema (migrations/, tables.ts), installation-key.ts the key and the lock, vault.ts seals secrets, writer.ts runs the transactions,
 * jobs.ts, machines.ts, deliveries.ts and runners.ts are the calls, prune.ts forgets what is old. live.ts has what lives in memory, so that
 * most questions need no database; prepared.ts keeps the queries that are left from being built again. reads.ts opens it for reading alone.
 *
 * The store is the only writer of state. Every method is one transaction that also writes its events; every move is a compare-and-set
 * against the tables in domain/states.ts and returns whether it was made; a refused one changes nothing. Listeners run after the
 * commit. All methods may throw StoreError `store_full` (disk full; retryable) or `store_failed`.
 */
import type { Secret } from "../base/secret.ts";
import type { EventDetails, EventKind, LifecycleEvent } from "../domain/events.ts";
import type { FailureCause, JobEnding, JobFailure } from "../domain/job-end.ts";
import type { Size } from "../domain/size.ts";
import type { JobResult, JobState, MachineState } from "../domain/states.ts";
import type { TraceContext } from "../domain/trace-context.ts";
import type { Peaks } from "../domain/usage.ts";
import type { DeliveryStore, RunnerStore } from "./jobs-by-tag.ts";

/** One GitLab job that this installation has claimed. Times are epoch ms; null until they have happened. */
export interface Job {
  /** GitLab's job id. */
  readonly id: number;
  readonly pool: string;
  /** First characters of the runner token, for people (`glrt-abcd`). */
  readonly runner: string;
  readonly state: JobState;
  readonly name: string;
  readonly stage: string;
  readonly project: string;
  readonly size: Size;
  /** GitLab's time limit for the job. */
  readonly timeoutMs: number;
  /** Machines created for it so far. */
  readonly attempt: number;
  /** Its machine of the current attempt. */
  readonly machineId: string | null;
  /** Lines of our own that stand before the runner's first byte in GitLab's trace. Fixed once the job is `running`. */
  readonly traceHead: string;
  /** Bytes of the trace that GitLab has acknowledged, ours included. */
  readonly traceSize: number;
  readonly claimedAt: number;
  readonly startingAt: number | null;
  readonly runningAt: number | null;
  readonly failingAt: number | null;
  readonly finishedAt: number | null;
  /** When the next report to GitLab is due, for a `failing` job. */
  readonly reportAt: number | null;
  readonly result: JobResult | null;
  /** Why it failed or will be reported as failed, in words; null for a job whose own script decided. */
  readonly reason: string | null;
  /** What its failure is blamed on; null for jobs that did not fail, and for some of releases before. */
  readonly cause: FailureCause | null;
  /** How long it had waited in GitLab when it was claimed. Null, as the two below, when nobody said. */
  readonly queuedMs: number | null;
  /** The most that its machine has used, as its guest tells. */
  readonly peakMemoryMib: number | null;
  readonly peakDiskMib: number | null;
}

/** One microVM. */
export interface Machine {
  readonly id: string;
  readonly jobId: number | null;
  readonly pool: string;
  readonly driver: string;
  readonly host: string;
  /** Digest of its image. */
  readonly image: string;
  readonly size: Size;
  readonly state: MachineState;
  /** Why it is to be destroyed; null until `stopping`. */
  readonly reason: string | null;
  /** What its job's failure is to be blamed on, where whoever stopped it knew. */
  readonly cause: FailureCause | null;
  readonly createdAt: number;
  readonly bootingAt: number | null;
  readonly heardAt: number | null;
  readonly readyAt: number | null;
  readonly busyAt: number | null;
  readonly stoppingAt: number | null;
  readonly goneAt: number | null;
}

/** What the claimer knows of a 201: enough to make a job row. */
export interface Claim {
  readonly jobId: number;
  readonly pool: string;
  readonly runner: string;
  readonly name: string;
  readonly stage: string;
  readonly project: string;
  readonly size: Size;
  readonly timeoutMs: number;
  /** How long GitLab held the successful poll. */
  readonly pollMs: number;
  /** How long the job had been in GitLab's queue; undefined where GitLab does not say. */
  readonly queuedMs?: number | undefined;
  /** GitLab's answer, byte for byte. Encrypted before it touches the disk. */
  readonly payload: string;
  /** Why it is to be failed and never started: it is `failing` as soon as it is known. */
  readonly failure?: JobFailure;
  /** Its trace is to be made when it has ended; left out where nobody wants one. */
  readonly trace?: Omit<JobTrace, "jobId"> | undefined;
}

/** What of GitLab's payload the trace of a job needs, kept when that is erased. */
export interface JobTrace extends TraceContext {
  readonly jobId: number;
  /** GitLab's ids. */
  readonly pipelineId: number | null;
  readonly projectId: number | null;
}

/** Which jobs a list has; what is left out limits nothing. */
export interface JobFilter {
  /** Only what has not ended. */
  readonly unfinished?: boolean | undefined;
  /** The newest so many; all that are asked for with `unfinished`, else 100. */
  readonly limit?: number | undefined;
  /** The path of a project, or of a group: of all projects below it. */
  readonly project?: string | undefined;
  readonly pool?: string | undefined;
  readonly states?: readonly JobState[] | undefined;
  readonly results?: readonly JobResult[] | undefined;
  /** Claimed then or later (epoch ms). */
  readonly since?: number | undefined;
}

export interface UsageFilter {
  readonly by: "project" | "pool" | "tag";
  /** Epoch ms; `until` is not part of it. */
  readonly since: number;
  readonly until: number;
  /** The path of a project, or of a group: of all projects below it. */
  readonly project?: string | undefined;
  readonly pool?: string | undefined;
}

/** What jobs of one kind have used. A job with several tags counts for each of them. Null where nothing was measured. */
export interface UsageRow {
  /** The project, pool or tag; null for jobs of runners whose tags nobody here knows. */
  readonly key: string | null;
  readonly jobs: number;
  readonly succeeded: number;
  readonly failed: number;
  readonly unfinished: number;
  /** Of machines, as large as they were and for as long as they were there. */
  readonly vcpuMs: number;
  readonly mibMs: number;
  /** How many jobs have begun; of these the waits, in GitLab and here, until they had the machine. */
  readonly waits: number;
  readonly medianWaitMs: number | null;
  readonly p95WaitMs: number | null;
  readonly longestWaitMs: number | null;
  readonly leastCpus: number;
  readonly mostCpus: number;
  readonly leastMemoryMib: number;
  readonly mostMemoryMib: number;
  readonly leastDiskMib: number;
  readonly mostDiskMib: number;
  /** How many jobs' guests have told of it, and the largest peak of all. */
  readonly memoryMeasured: number;
  readonly peakMemoryMib: number | null;
  readonly diskMeasured: number;
  readonly peakDiskMib: number | null;
  /** Jobs that ended for want of memory. */
  readonly outOfMemory: number;
}

/** A machine about to be created. */
export interface NewMachine {
  readonly id: string;
  readonly pool: string;
  readonly driver: string;
  readonly host: string;
  readonly image: string;
  readonly size: Size;
}

/** A change to the store's rows that was made or, when `false`, refused because the row had moved on meanwhile. */
type Moved = boolean;

/** Jobs, and the bookkeeping of their traces. */
export interface JobStore {
  /** Makes a claimed job durable. False when the job is already known (GitLab never gives one twice). */
  claim(claim: Claim): Promise<Moved>;
  job(id: number): Promise<Job | undefined>;
  /** Newest first. */
  jobs(filter?: JobFilter): Promise<Job[]>;
  /** What jobs have used, the most CPU time first. */
  usage(filter: UsageFilter): Promise<UsageRow[]>;
  /** GitLab's payload of a job that is not finished; undefined once erased. */
  payload(jobId: number): Promise<string | undefined>;
  /** `claimed` → `starting` with a new machine in `creating`, in one step. */
  startJob(jobId: number, machine: NewMachine): Promise<Moved>;
  /**
   * `starting` → `claimed`: the machine of this attempt died before the payload was handed over. It is stopped in the same
   * step, unless it was already, so that it can never ask for the payload again. With `does not count` the next attempt has this
   * one's number.
   */
  retryJob(jobId: number, reason: string, counts?: "counts" | "does not count"): Promise<Moved>;
  /**
   * `starting` → `running` and its machine `booting|ready` → `busy`, in one step: the payload may be handed over now. False,
   * and nothing moved, when `machineId` is not the job's machine.
   */
  handOver(jobId: number, machineId: string): Promise<Moved>;
  /** Any unfinished state → `failing`. A report is due at once. */
  failJob(jobId: number, failure: JobFailure): Promise<Moved>;
  /** A report failed: the next is due at `reportAt`. */
  postponeReport(jobId: number, reportAt: number, error: string): Promise<void>;
  /** Any unfinished state → `finished`. Erases the payload. What `end` leaves out stays as `failJob` had it. */
  finishJob(jobId: number, result: JobResult, end?: JobEnding): Promise<Moved>;

  /** Appends to the head while the job is not yet running; false (and nothing appended) afterwards. */
  addTraceHead(jobId: number, text: string): Promise<Moved>;
  setTraceSize(jobId: number, sizeBytes: number): Promise<void>;
  /** What a job's machine has used at most. Refused when that is no news, or `machineId` is not the job's machine. */
  notePeaks(jobId: number, machineId: string, peaks: Peaks): Promise<Moved>;
}

/** Traces of jobs. */
export interface TraceStore {
  /** The trace that a job belongs to; undefined for one that is not traced. */
  trace(jobId: number): Promise<JobTrace | undefined>;
  /**
   * Jobs whose trace is to be made: GitLab has their end and none of their machines is left, so that nothing more will happen. Those that
   * ended first come first.
   */
  dueTraces(limit: number): Promise<JobTrace[]>;
  /** How many jobs that have ended wait for their trace to be made, those with a machine that is left included. */
  waitingTraces(): Promise<number>;
  /** Somebody has taken these traces, or never will: they are due no more. */
  settleTraces(jobIds: readonly number[]): Promise<void>;
  /** Settles all of jobs that ended before (epoch ms), due or not. Returns how many. */
  giveUpTraces(endedBefore: number): Promise<number>;
}

/** Machines, and the secrets by which they prove themselves. */
export interface MachineStore {
  machine(id: string): Promise<Machine | undefined>;
  /** Newest first. `live` gives all that are not gone; otherwise the last `limit` (default 100). */
  machines(filter?: { live?: boolean; limit?: number }): Promise<Machine[]>;
  /** `creating` → `booting`: the driver says its process runs. */
  markBooting(machineId: string): Promise<Moved>;
  /** The guest spoke for the first time. Idempotent; not a state. */
  markHeard(machineId: string): Promise<Moved>;
  /** `booting` → `ready`: the guest asked for work. */
  markReady(machineId: string): Promise<Moved>;
  /** Any live state → `stopping`. `cause`: what its job, if it has one, fails for. */
  stopMachine(machineId: string, reason: string, cause?: FailureCause): Promise<Moved>;
  /** `stopping` → `gone`. */
  markGone(machineId: string): Promise<Moved>;

  /**
   * A new secret (64 hex digits) by which a machine on another host proves itself to the relay, in place of any earlier one. It is
   * good until the machine is stopped. Undefined when the machine has left `creating`. Only its hash is kept.
   */
  issueLink(machineId: string): Promise<Secret | undefined>;
  /** Whether `secret` is the one issued last for this machine, and the machine is not being stopped. */
  checkLink(machineId: string, secret: string): Promise<boolean>;

  /**
   * The secret by which a machine proves itself to the relay, and nothing else: an HMAC of its id under the
   * installation's key, so that it needs no storage and survives a restart.
   */
  machineToken(machineId: string): Secret;
}

/** What is said of hosts. */
export interface HostStore {
  /** Nothing new is started on this host (see `hostKey`) until it is resumed. Idempotent. */
  drainHost(key: string): Promise<void>;
  resumeHost(key: string): Promise<void>;
  drainedHosts(): Promise<string[]>;
}

/** The log of everything that happened. */
export interface EventStore {
  /** Records something that is not a move. About a machine: its job, if it has one, is added. */
  note<Kind extends EventKind>(
    kind: Kind,
    about: { jobId?: number | undefined; machineId?: string | undefined },
    detail: EventDetails[Kind],
  ): Promise<void>;
  /** Oldest first, at most `limit` (default 1,000), of all kinds unless some are named; the next page begins after the last `seq`. */
  events(filter: {
    jobId?: number;
    machineId?: string;
    afterSeq?: number;
    limit?: number;
    kinds?: readonly EventKind[];
  }): Promise<LifecycleEvent[]>;
  /** The number of the newest; 0 before the first. */
  lastEvent(): Promise<number>;
  /** Calls `listener` after each commit, in order. Returns the way to stop. */
  onEvent(listener: (event: LifecycleEvent) => void): () => void;
}

/** All of it. */
export interface Store
  extends JobStore,
    TraceStore,
    MachineStore,
    HostStore,
    EventStore,
    DeliveryStore,
    RunnerStore {
  /** A stable random id of this installation, made at first start. */
  readonly installationId: string;

  /**
   * Deletes what ended before `before` (epoch ms): finished jobs, gone machines and runners, and events of none that is left.
   * Deliveries go after three days, if not earlier by `before`; never before two. Returns rows deleted.
   */
  prune(before: number): Promise<number>;
  close(): Promise<void>;
}
