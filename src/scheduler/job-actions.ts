import type { Clock } from "../base/clock.ts";
import { backoffMs } from "../gitlab/backoff.ts";
import type { JobFailure } from "../lifecycle/job-end.ts";
import { hostKey } from "../lifecycle/placement.ts";
import type { NewMachine, Store } from "../store/store.ts";
import type { Fleet } from "../vm/driver.ts";
import { SchedulerError } from "./errors.ts";
import type { Rest } from "./lanes.ts";
import { recordLastWords } from "./last-words.ts";
import type { ImageSource, Pools } from "./ports.ts";
import { traceLine } from "./trace-lines.ts";

export interface JobActionDeps {
  readonly store: Store;
  readonly fleet: Pick<Fleet, "hosts">;
  readonly images: ImageSource;
  readonly pools: Pools;
  readonly clock: Clock;
  readonly random: () => number;
  readonly newMachineId: () => string;
  readonly attempts: number;
  /** Hosts where a machine of a job was lost, by job. */
  readonly shunned: Map<number, Set<string>>;
}

/** What is done to jobs, short of talking to GitLab. */
export interface JobActions {
  /** Returns the id of the new machine, which is still to be created on `host`; undefined when the job had moved on. */
  startMachine(jobId: number, host: string): Promise<string | undefined>;
  retry(jobId: number, machineId: string, reason: string, signal: AbortSignal): Promise<Rest | undefined>;
  fail(jobId: number, failure: JobFailure, signal: AbortSignal): Promise<void>;
}

export function createJobActions(deps: JobActionDeps): JobActions {
  const { store, fleet, images, pools, random, newMachineId, attempts } = deps;

  async function startMachine(jobId: number, host: string): Promise<string | undefined> {
    const job = await store.job(jobId);
    if (job?.state !== "claimed") return undefined;
    const pool = pools().get(job.pool);
    const driver = fleet.hosts().get(host);
    if (!pool || !driver) {
      const words = `starting a machine for job ${jobId}: its pool ${job.pool} or the host ${host} is not configured any more`;
      throw new SchedulerError("scheduler_no_driver", words);
    }
    const image = await images.resolve(pool.image);
    const machine: NewMachine = {
      id: newMachineId(),
      pool: pool.name,
      driver: driver.name,
      host: driver.host,
      image: image.digest,
      size: job.size,
    };
    if (!(await store.startJob(jobId, machine))) return undefined;
    if (fleet.hosts().has(host)) return machine.id;
    // A reload took the host away meanwhile. Nothing was asked of it, so there is nothing to wait for.
    await store.retryJob(jobId, `the host ${machine.host} was removed from the configuration`);
    await store.markGone(machine.id);
    return undefined;
  }

  /** The next machine waits a little, longer each time: what broke the last one may pass. */
  async function retry(
    jobId: number,
    machineId: string,
    reason: string,
    signal: AbortSignal,
  ): Promise<Rest | undefined> {
    const job = await store.job(jobId);
    if (job?.state !== "starting" || job.machineId !== machineId) return undefined;
    await recordLastWords(deps, jobId, machineId, signal);
    await shunHost(deps, jobId, machineId);
    if (!(await store.retryJob(jobId, reason))) return undefined;
    const next = `trying another machine, attempt ${job.attempt + 1} of ${attempts}`;
    await store.addTraceHead(
      jobId,
      traceLine("warning", `machine ${machineId} was lost: ${reason}; ${next}`),
    );
    return { restMs: backoffMs(job.attempt, random, { baseMs: 500, capMs: 10_000 }) };
  }

  async function fail(jobId: number, failure: JobFailure, signal: AbortSignal): Promise<void> {
    const job = await store.job(jobId);
    if (!job || job.state === "failing" || job.state === "finished") return;
    const memory = await recordLastWords(deps, jobId, job.machineId, signal);
    await store.failJob(jobId, withMemory(failure, memory));
  }

  return { startMachine, retry, fail };
}

/** What ended a machine is known from outside; its own kernel may have said why. */
function withMemory(failure: JobFailure, line: string | undefined): JobFailure {
  if (line === undefined || failure.cause !== "machine") return failure;
  return { reason: `${failure.reason}; it had no memory left: ${line}`, cause: "memory" };
}

/** What broke there once may break again: the next machine of this job goes elsewhere if it can. */
async function shunHost({ store, shunned }: JobActionDeps, jobId: number, machineId: string): Promise<void> {
  const machine = await store.machine(machineId);
  if (machine) shunned.set(jobId, (shunned.get(jobId) ?? new Set()).add(hostKey(machine)));
}
