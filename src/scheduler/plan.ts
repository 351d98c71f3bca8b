/**
 * All policy of the scheduler: what has to be done next, given everything that is known. Pure. Start-up, normal work,
 * recovery and shutdown are the same function of the same snapshot; what was decided wrongly because the world moved on
 * is refused by the store's compare-and-set and decided anew in the next round.
 *
 * Jobs go before machines: a job first lets go of a machine (it is retried, failed or finished), then the machine is
 * stopped and destroyed. So a payload is never handed to a machine that is being given up, and the last words of a
 * machine can be read before it is destroyed.
 */
import { formatDuration } from "../base/units.ts";
import type { FailureCause, JobFailure } from "../domain/job-end.ts";
import { isLocalHost } from "../domain/placement.ts";
import type { Job, Machine } from "../store/store.ts";
import type { Exit, ExitKind } from "../vm/driver.ts";
import type { SchedulerConfig } from "./config.ts";
import type { Snapshot } from "./snapshot.ts";
import { type Placed, placedMachines, type Starts, startsIn } from "./snapshot.ts";

/** What can be done; each is idempotent. `host` is a key. */
export type Action =
  /** A new machine for a claimed job. */
  | { readonly kind: "startMachine"; readonly jobId: number; readonly host: string }
  | { readonly kind: "create"; readonly machineId: string; readonly host: string }
  /** Found running after a restart: listen for it again. */
  | { readonly kind: "adopt"; readonly machineId: string; readonly host: string }
  | { readonly kind: "stopMachine"; readonly machineId: string; readonly reason: string }
  | { readonly kind: "destroy"; readonly machineId: string; readonly host: string }
  /** On a host, but not ours any more. */
  | { readonly kind: "destroyUnknown"; readonly machineId: string; readonly host: string }
  /** `counts`: it was an attempt, of which a job has so many. It was none when its machine never came to be. */
  | {
      readonly kind: "retryJob";
      readonly jobId: number;
      readonly machineId: string;
      readonly reason: string;
      readonly counts: boolean;
    }
  | ({ readonly kind: "failJob"; readonly jobId: number } & JobFailure)
  | { readonly kind: "report"; readonly jobId: number }
  | { readonly kind: "checkStatus"; readonly jobId: number };

type Policy = Pick<
  SchedulerConfig,
  "attempts" | "startLimit" | "bootDeadline" | "silenceLimit" | "timeoutGrace" | "standingInterval"
>;

interface View {
  readonly snapshot: Snapshot;
  readonly policy: Policy;
  readonly now: number;
  readonly machines: ReadonlyMap<string, Placed>;
  readonly starts: Starts;
  /** By id. */
  readonly jobs: ReadonlyMap<number, Job>;
  /** The job that a machine works for now, by machine. */
  readonly owners: ReadonlyMap<string, Job>;
}

export function plan(snapshot: Snapshot, policy: Policy, now: number): Action[] {
  const machines = placedMachines(snapshot);
  const view: View = {
    ...{ snapshot, policy, now, machines },
    starts: startsIn(snapshot, machines),
    jobs: new Map(snapshot.jobs.map((job) => [job.id, job])),
    owners: new Map(snapshot.jobs.filter(needsMachine).map((job) => [job.machineId ?? "", job])),
  };
  const remedies = new Map(snapshot.jobs.map((job) => [job.id, remedyOf(view, job)]));
  return [
    ...snapshot.jobs.flatMap((job) => planJob(view, job, remedies.get(job.id))),
    ...planStarts(
      view,
      snapshot.jobs.filter(({ id }) => remedies.get(id) === undefined),
    ),
    ...[...view.machines.values()].flatMap((placed) => planMachine(view, placed)),
    ...planUnknown(view),
  ];
}

function needsMachine(job: Job): boolean {
  return job.machineId !== null && (job.state === "starting" || job.state === "running");
}

// Jobs -----------------------------------------------------------------------------------------------------------

function planJob(view: View, job: Job, remedy: Action | undefined): Action[] {
  if (job.state === "finished") return [];
  if (job.state === "failing")
    return view.now >= (job.reportAt ?? 0) ? [{ kind: "report", jobId: job.id }] : [];
  if (remedy) return [remedy];
  return statusIsOld(view, job) ? [{ kind: "checkStatus", jobId: job.id }] : [];
}

/** What has to happen because this job cannot go on as it is; undefined when it can. */
function remedyOf(view: View, job: Job): Action | undefined {
  if (job.state === "failing" || job.state === "finished") return undefined;
  const problem = view.snapshot.mode === "end" ? ending : problemOf(view, job);
  if (problem === undefined) return undefined;
  const counts = wasStarted(view, job);
  const mayRetry = view.snapshot.mode !== "end" && (!counts || job.attempt < view.policy.attempts);
  if (job.state === "starting" && mayRetry)
    return {
      kind: "retryJob",
      jobId: job.id,
      machineId: job.machineId ?? "",
      reason: problem.reason,
      counts,
    };
  const exhausted = job.state === "starting" && view.snapshot.mode !== "end";
  if (!exhausted) return { kind: "failJob", jobId: job.id, ...problem };
  const reason = `no machine took it in ${attempts(job)}; the last one: ${problem.reason}`;
  return { kind: "failJob", jobId: job.id, reason, cause: "never-started" };
}

/**
 * Whether a job's machine was really there. A host that does not make one says something of itself and not of the job: that costs
 * the job time, and what it may wait is limited by `startLimit`.
 */
function wasStarted({ machines }: View, job: Job): boolean {
  const machine = machines.get(job.machineId ?? "")?.machine;
  return machine === undefined || machine.bootingAt !== null || machine.heardAt !== null;
}

const ending: JobFailure = {
  reason: "FireRunner was told to end, and its configuration ends running jobs then",
  cause: "shutdown",
};

function attempts({ attempt }: Job): string {
  return attempt === 1 ? "1 attempt" : `${attempt} attempts`;
}

function problemOf(view: View, job: Job): JobFailure | undefined {
  if (job.state === "claimed") return startProblem(view, job);
  const lost = machineProblem(view, job);
  if (lost !== undefined) return lost;
  return job.state === "starting" ? slowBoot(view, job) : (silence(view, job) ?? overtime(view, job));
}

function startProblem({ snapshot, starts, policy, now }: View, job: Job): JobFailure | undefined {
  if (!snapshot.pools.has(job.pool))
    return { reason: `the pool “${job.pool}” is not configured any more`, cause: "unservable" };
  const hopeless = starts.permanentBlocker(job);
  if (hopeless !== undefined)
    return { reason: `no machine can be made for it: ${hopeless}`, cause: "unservable" };
  const fetchedMs = snapshot.fetchedMs.get(job.id) ?? 0;
  const waitedMs = now - lastOf([job.claimedAt, snapshot.since, snapshot.steppedAt], now) - fetchedMs;
  if (waitedMs < policy.startLimit) return undefined;
  // One host may have kept it for all the time that it had.
  if (waitedMs < 2 * policy.startLimit && starts.hasUntriedHost(job)) return undefined;
  const blocker = starts.blocker(job);
  const words = `no machine could be started for it within ${formatDuration(policy.startLimit)}`;
  const reason = blocker === undefined ? words : `${words}: ${blocker}`;
  return { reason, cause: "never-started" };
}

/** How the machine of a starting or running job was lost, in words. */
function machineProblem(view: View, job: Job): JobFailure | undefined {
  const placed = view.machines.get(job.machineId ?? "");
  if (!placed) return lostMachine("its machine is not known any more");
  const { machine } = placed;
  if (machine.state === "stopping" || machine.state === "gone")
    return lostMachine(machine.reason ?? "its machine was stopped", machine.cause);
  const hadJob = job.state === "running";
  // What the guest said itself comes first: its host may know nothing of it, or have started it again meanwhile.
  const end = view.snapshot.ends.get(machine.id);
  if (end === "restarted")
    return lostMachine("its machine had ended, and its host has started it again on its used disk");
  const exit = end ? { exit: end } : exitOf(view, placed);
  return exit && failureOfExit(exit, hadJob);
}

function lostMachine(reason: string, cause: FailureCause | null = null): JobFailure {
  return { reason, cause: cause ?? "machine" };
}

/** How a machine ended that should be running, or undefined when it runs or nothing can be said. */
function exitOf({ snapshot }: View, { machine, isAsked, status }: Placed): Exit | undefined {
  if (!isAsked || !snapshot.settled.has(machine.id)) return undefined;
  if (!status) return { exit: "lost" };
  return status.running ? undefined : status;
}

function slowBoot({ snapshot, policy, now, machines }: View, job: Job): JobFailure | undefined {
  const machine = machines.get(job.machineId ?? "")?.machine;
  if (!machine?.bootingAt) return undefined;
  if (now - lastOf([machine.bootingAt, snapshot.since, snapshot.steppedAt], now) < policy.bootDeadline)
    return undefined;
  const limit = formatDuration(policy.bootDeadline);
  return lostMachine(
    machine.heardAt === null
      ? `the guest was not heard of within ${limit} after its start`
      : `the guest was heard, but did not take the job within ${limit} after its start`,
  );
}

/** A guest that hangs past the job's time limit has reached the limit before it was known to hang. */
function silence({ snapshot, policy, now, machines }: View, job: Job): JobFailure | undefined {
  const heardAt = snapshot.heardAt.get(job.machineId ?? "");
  const quietMs = now - lastOf([heardAt, job.runningAt, snapshot.since, snapshot.steppedAt], now);
  if (quietMs < policy.silenceLimit) return undefined;
  const words = `the machine gave no sign of life for ${formatDuration(policy.silenceLimit)}`;
  const placed = machines.get(job.machineId ?? "");
  if (placed && !placed.isAsked && !isLocalHost(placed.machine.host))
    return lostMachine(`${words}, and its host ${placed.machine.host} does not answer`, "host-lost");
  if (now < timeLimitAt(snapshot, job, now)) return lostMachine(words);
  return { reason: `${timeLimitIsOver(job)}, and ${words}`, cause: "time-limit" };
}

function overtime({ snapshot, policy, now }: View, job: Job): JobFailure | undefined {
  if (now < timeLimitAt(snapshot, job, now) + policy.timeoutGrace) return undefined;
  return { reason: `${timeLimitIsOver(job)} and its runner did not end it`, cause: "time-limit" };
}

/** Once the clock was set nobody knows here how long the job has run; its runner does, which has a limit of its own. */
function timeLimitAt({ since, steppedAt }: Snapshot, job: Job, now: number): number {
  return Math.max(lastOf([job.runningAt ?? now, steppedAt], now) + job.timeoutMs, since);
}

/** Clocks are read one after the other, and led back a little now and then. */
const CLOCK_SLACK_MS = 2_000;

/** The latest of these times. One that is still to come is of a clock that was set back since, and counts for nothing. */
function lastOf(times: readonly (number | null | undefined)[], now: number): number {
  return times.reduce<number>(
    (last, at) => (at != null && at <= now + CLOCK_SLACK_MS ? Math.max(last, at) : last),
    0,
  );
}

function timeLimitIsOver({ timeoutMs }: Job): string {
  return `the job's time limit of ${formatDuration(timeoutMs)} is over`;
}

/**
 * GitLab gets no more questions than 20 a second, however many jobs are silent. A thousand of them are then asked for every 50 s: by
 * then their runners, which ask every 30 s, have mostly heard it themselves.
 */
const STATUS_GAP_MS = 50;

function statusIsOld({ snapshot, policy, now }: View, job: Job): boolean {
  if (now >= (snapshot.recheckAt.get(job.id) ?? Number.POSITIVE_INFINITY)) return true;
  const toldAt = Math.max(snapshot.statusAt.get(job.id) ?? 0, job.claimedAt, job.runningAt ?? 0);
  return now - toldAt >= Math.max(policy.standingInterval, snapshot.jobs.length * STATUS_GAP_MS);
}

// Machines -------------------------------------------------------------------------------------------------------

/** Of the jobs that may go on, oldest first, as far as hosts have capacity. No host is ever given more than it has. */
function planStarts({ snapshot, starts }: View, jobs: readonly Job[]): Action[] {
  const waiting = jobs
    .filter((job) => job.state === "claimed" && !snapshot.starting.has(job.id))
    .toSorted((a, b) => a.claimedAt - b.claimedAt || a.id - b.id);
  if (waiting.length === 0) return [];
  const placement = starts.placement();
  return waiting.flatMap((job): Action[] => {
    const wanted = starts.wantedOf(job);
    const host = placement.place(wanted);
    if (host !== undefined) return [{ kind: "startMachine", jobId: job.id, host }];
    placement.reserveFuture(wanted);
    return [];
  });
}

function planMachine(view: View, placed: Placed): Action[] {
  const { machine, host } = placed;
  const { id: machineId } = machine;
  const owner = view.owners.get(machineId);
  switch (machine.state) {
    case "gone":
      return [];
    case "stopping":
      // Its job must let go first: what the console says goes into the job's trace.
      return owner ? [] : [{ kind: "destroy", machineId, host }];
    case "creating":
      return [owner ? { kind: "create", machineId, host } : stopUnneeded(view, machine)];
    default:
      if (!owner) return [stopUnneeded(view, machine)];
      return view.snapshot.listening.has(machineId) || exitOf(view, placed)
        ? []
        : [{ kind: "adopt", machineId, host }];
  }
}

function stopUnneeded({ jobs }: View, machine: Machine): Action {
  const job = jobs.get(machine.jobId ?? 0);
  const reason =
    job === undefined
      ? "its job has ended"
      : job.state === "failing"
        ? (job.reason ?? "its job has failed")
        : "it was given up before it took its job";
  return { kind: "stopMachine", machineId: machine.id, reason };
}

function planUnknown({ snapshot, machines }: View): Action[] {
  return [...snapshot.hosts].flatMap(([host, { listed }]) =>
    (listed ?? [])
      .filter(({ id }) => !isAt(machines.get(id), host))
      .map(({ id }): Action => ({ kind: "destroyUnknown", machineId: id, host })),
  );
}

/** Not so: it is nobody's, or belongs on another host. */
function isAt(placed: Placed | undefined, host: string): boolean {
  return placed !== undefined && placed.machine.state !== "gone" && placed.host === host;
}

// The ends of machines, in words ---------------------------------------------------------------------------------

const causes: Partial<Record<ExitKind, FailureCause>> = {
  "host-disk": "host-disk",
  "disk-error": "host-disk",
  "host-memory": "memory",
};

/** Why a job fails whose machine ended so. `hadJob`: its guest had taken it. */
export function failureOfExit({ exit, words }: Exit, hadJob: boolean): JobFailure {
  const what: Record<ExitKind, string> = {
    orderly: hadJob
      ? "the guest powered off without reporting a result"
      : "the guest powered off before it took the job",
    crash: "the machine crashed",
    killed: "the machine was killed from outside",
    "host-disk": "the disk of its host is full, so the machine was ended",
    "disk-error": "the disk of its host did not take what the machine wrote, so it was ended",
    "host-memory":
      "the machine was killed from outside, and its host's kernel has killed for want of memory while it ran",
    lost: "the machine disappeared and nobody saw how it ended",
  };
  const reason = words === undefined ? what[exit] : `${what[exit]}: ${words}`;
  return { reason, cause: causes[exit] ?? "machine" };
}
