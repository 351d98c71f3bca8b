/**
 * What is counted as it happens, from the store's events: each is told once, and never again after a restart, when counters begin anew as
 * Prometheus expects of them. Of a job and a machine that live no more is kept than their end will need.
 */
import { SECOND_MS } from "../../base/units.ts";
import type { EventDetails, LifecycleEvent } from "../../domain/events.ts";
import { causeOf, failureReasonOf } from "../../domain/job-end.ts";
import { jobResults } from "../../domain/states.ts";
import type { JobRecord } from "../job-record.ts";
import type { Instruments } from "./instruments.ts";
import { poolLabel } from "./label-values.ts";
import { createUsage, type UsingMachine } from "./usage.ts";

/** A job that has not ended. Epoch ms. */
export interface LivingJob {
  readonly id: number;
  readonly pool: string;
  readonly claimedAt: number;
  readonly runningAt: number | null;
}

/** A machine that is not gone. */
export interface LivingMachine extends UsingMachine {
  readonly driver: string;
}

interface EventCountsDeps {
  readonly instruments: Pick<Instruments, "count" | "observe">;
  /** What there is when counting begins, at `now` (epoch ms). */
  readonly jobs: readonly LivingJob[];
  readonly machines: readonly LivingMachine[];
  readonly now: number;
}

export interface EventCounts {
  take(event: LifecycleEvent): void;
  /** The phases of a job's machine, once both have ended. */
  takeRecord(record: JobRecord): void;
  /** Counts what machines have used up to `now` (epoch ms). */
  countUsage(now: number): void;
}

/** A guest says how many of its processes were killed; no script has more. */
const MOST_KILLED = 1_000;
const UNKNOWN = "unknown";

export function createEventCounts({ instruments, jobs, machines, now }: EventCountsDeps): EventCounts {
  const ofJobs = createJobCounts(instruments, jobs);
  const ofMachines = createMachineCounts(instruments, { machines, now, poolOf: ofJobs.poolOf });
  return {
    take(event) {
      ofJobs.take(event);
      ofMachines.take(event);
      takeOfGuest(instruments.count, event);
    },
    takeRecord: (record) => observePhases(instruments, record),
    countUsage: ofMachines.countUsage,
  };
}

interface Living extends Pick<EventCountsDeps, "machines" | "now"> {
  readonly poolOf: (jobId: number | null) => string;
}

function createMachineCounts({ count }: Pick<Instruments, "count">, { machines, now, poolOf }: Living) {
  const usage = createUsage({ count });
  const drivers = new Map<string, string>();
  for (const machine of machines) {
    drivers.set(machine.id, machine.driver);
    usage.begin(machine, now);
  }

  function operation(id: string, operation: "create" | "destroy", result: "success" | "failure"): void {
    const driver = drivers.get(id) ?? UNKNOWN;
    count("firerunner_machine_operations_total", 1, { driver, operation, result });
  }

  function begin(
    id: string,
    jobId: number | null,
    at: number,
    detail: EventDetails["machine:creating"],
  ): void {
    const { driver, cpus, memoryMib } = detail;
    drivers.set(id, driver);
    showOperations(count, driver);
    usage.begin({ id, pool: poolOf(jobId), cpus, memoryMib }, at);
  }

  function end(id: string, at: number): void {
    operation(id, "destroy", "success");
    usage.end(id, at);
    drivers.delete(id);
  }

  function take(event: LifecycleEvent): void {
    const { jobId, at } = event;
    const id = event.machineId ?? "";
    switch (event.kind) {
      case "machine:creating":
        begin(id, jobId, at, event.detail);
        break;
      case "machine:booting":
        operation(id, "create", "success");
        break;
      case "machine:create-failed":
        operation(id, "create", "failure");
        break;
      case "machine:destroy-failed":
        operation(id, "destroy", "failure");
        break;
      case "machine:gone":
        end(id, at);
        break;
      case "machine:out-of-memory":
        count("firerunner_machines_out_of_memory_total", 1);
        count("firerunner_guest_oom_kills_total", Math.min(event.detail.killed, MOST_KILLED));
        break;
      case "machine:unknown":
        count("firerunner_orphan_machines_total", 1);
        break;
      default:
    }
  }

  return { take, countUsage: usage.count };
}

/** So that the first job of a pool that fails is seen to be one more than none. */
export function showResults(count: Instruments["count"], pool: string): void {
  for (const result of jobResults) count("firerunner_jobs_total", 0, { pool, result });
}

/** The same for the first machine that a driver does not make. */
function showOperations(count: Instruments["count"], driver: string): void {
  for (const operation of ["create", "destroy"])
    for (const result of ["success", "failure"])
      count("firerunner_machine_operations_total", 0, { driver, operation, result });
}

function createJobCounts({ count, observe }: EventCountsDeps["instruments"], living: readonly LivingJob[]) {
  const jobs = new Map<number, LivingJob>(living.map((job) => [job.id, job]));
  const poolOf = (id: number | null) => (id === null ? UNKNOWN : (jobs.get(id)?.pool ?? UNKNOWN));

  function begin(id: number, claimedAt: number, { pool, queuedMs }: EventDetails["job:claimed"]): void {
    jobs.set(id, { id, pool, claimedAt, runningAt: null });
    showResults(count, poolLabel(pool));
    if (queuedMs === undefined) return;
    const seconds = queuedMs / SECOND_MS;
    observe("firerunner_job_queue_duration_seconds", seconds, { pool: poolLabel(pool) });
    observe("gitlab_runner_job_queue_duration_seconds", seconds, { runner: poolLabel(pool) });
  }

  function run(id: number, at: number): void {
    const job = jobs.get(id);
    if (job === undefined) return;
    jobs.set(id, { ...job, runningAt: at });
    const seconds = (at - job.claimedAt) / SECOND_MS;
    observe("firerunner_job_start_duration_seconds", seconds, { pool: poolLabel(job.pool) });
  }

  function end(id: number, at: number, detail: EventDetails["job:finished"]): void {
    const pool = poolLabel(poolOf(id));
    const runningAt = jobs.get(id)?.runningAt ?? null;
    jobs.delete(id);
    const { result, reason = null, cause = null } = detail;
    count("firerunner_jobs_total", 1, { pool, result });
    count("gitlab_runner_jobs_total", 1, { runner: pool });
    if (result === "failed") {
      const blamed = causeOf({ reason, cause });
      count("firerunner_job_failures_total", 1, { reason: blamed });
      const failure_reason = failureReasonOf(blamed);
      count("gitlab_runner_failed_jobs_total", 1, { runner: pool, failure_reason });
    }
    if (runningAt === null) return;
    const seconds = (at - runningAt) / SECOND_MS;
    observe("firerunner_job_duration_seconds", seconds, { pool });
    observe("gitlab_runner_job_duration_seconds", seconds, { runner: pool });
  }

  return {
    poolOf,
    take(event: LifecycleEvent): void {
      const { jobId, at } = event;
      if (jobId === null) return;
      if (event.kind === "job:claimed") begin(jobId, at, event.detail);
      else if (event.kind === "job:running") run(jobId, at);
      else if (event.kind === "job:finished") end(jobId, at, event.detail);
      else if (event.kind === "job:retried") count("firerunner_job_retries_total", 1);
      else if (event.kind === "job:report-failed") count("firerunner_job_report_failures_total", 1);
    },
  };
}

function takeOfGuest(count: Instruments["count"], event: LifecycleEvent): void {
  if (event.kind === "guest:refused") {
    count("firerunner_guest_refusals_total", 1, { rule: event.detail.rule });
  } else if (
    event.kind === "egress:connected" ||
    event.kind === "egress:failed" ||
    event.kind === "egress:refused" ||
    event.kind === "egress:unlisted"
  ) {
    count("firerunner_egress_total", 1, { outcome: event.kind.slice("egress:".length) });
  }
}

function observePhases({ observe }: Pick<Instruments, "observe">, { driver, phases }: JobRecord): void {
  if (driver === undefined) return;
  const { imagesMs, createMs, bootMs, readyMs, handOverMs, cleanupMs } = phases;
  const measured = {
    images: imagesMs,
    create: createMs,
    boot: bootMs,
    ready: readyMs,
    hand_over: handOverMs,
    cleanup: cleanupMs,
  };
  for (const [phase, ms] of Object.entries(measured)) {
    if (ms === undefined) continue;
    observe("firerunner_machine_phase_duration_seconds", ms / SECOND_MS, { driver, phase });
  }
}
