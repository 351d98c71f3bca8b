import type { Clock } from "../base/clock.ts";
import { backoffMs } from "../base/rates.ts";
import type { JobFailure } from "../domain/job-end.ts";
import { hostKey } from "../domain/placement.ts";
import type { EventStore, JobStore, MachineStore, NewMachine } from "../store/store.ts";
import type { Fleet } from "../vm/driver.ts";
import { recordConsoleTail } from "./console-tail.ts";
import { SchedulerError } from "./errors.ts";
import type { Action } from "./plan.ts";
import type { ImageSource, Pools } from "./ports.ts";
import type { Cooldown } from "./task-queue.ts";
import { traceLine } from "./trace-lines.ts";

export interface JobActionDeps {
  readonly store: JobStore & MachineStore & EventStore;
  readonly fleet: Pick<Fleet, "hosts">;
  readonly images: ImageSource;
  readonly pools: Pools;
  readonly clock: Clock;
  readonly random: () => number;
  readonly newMachineId: () => string;
  readonly attempts: number;
  /** Hosts where a machine of a job was lost, by job. */
  readonly avoidedHosts: Map<number, Set<string>>;
}

/** A job gives up its machine and waits for another. */
type Retry = Omit<Extract<Action, { readonly kind: "retryJob" }>, "kind">;

/** What is done to jobs, short of talking to GitLab. */
export interface JobActions {
  /** Returns the id of the new machine, which is still to be created on `host`; undefined when the job had moved on. */
  startMachine(jobId: number, host: string): Promise<string | undefined>;
  retry(retry: Retry, signal: AbortSignal): Promise<Cooldown | undefined>;
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
    const words = `the host ${machine.host} was removed from the configuration`;
    await store.retryJob(jobId, words, "does not count");
    await store.markGone(machine.id);
    return undefined;
  }

  /** The next machine waits a little, longer each time: what broke the last one may pass. */
  async function retry(retry: Retry, signal: AbortSignal): Promise<Cooldown | undefined> {
    const { jobId, machineId, reason, counts } = retry;
    const job = await store.job(jobId);
    if (job?.state !== "starting" || job.machineId !== machineId) return undefined;
    if (counts) await recordConsoleTail(deps, jobId, machineId, signal);
    const isNews = await avoidHost(deps, jobId, machineId);
    if (!(await store.retryJob(jobId, reason, counts ? "counts" : "does not count"))) return undefined;
    const words = retryWords(retry, job.attempt, attempts, isNews);
    if (words !== undefined) await store.addTraceHead(jobId, traceLine("warning", words));
    return { forMs: backoffMs(job.attempt, random, { baseMs: 500, capMs: 10_000 }) };
  }

  async function fail(jobId: number, failure: JobFailure, signal: AbortSignal): Promise<void> {
    const job = await store.job(jobId);
    if (!job || job.state === "failing" || job.state === "finished") return;
    const memory = await recordConsoleTail(deps, jobId, job.machineId, signal);
    await store.failJob(jobId, withMemory(failure, memory));
  }

  return { startMachine, retry, fail };
}

/** What ended a machine is known from outside; its own kernel may have said why. */
function withMemory(failure: JobFailure, line: string | undefined): JobFailure {
  if (line === undefined || failure.cause !== "machine") return failure;
  return { reason: `${failure.reason}; it had no memory left: ${line}`, cause: "memory" };
}

/** Undefined for a host that goes on refusing: it is not to fill the log. */
function retryWords(
  { machineId, reason, counts }: Retry,
  attempt: number,
  attempts: number,
  isNews: boolean,
): string | undefined {
  if (counts)
    return `machine ${machineId} was lost: ${reason}; trying another machine, attempt ${attempt + 1} of ${attempts}`;
  if (!isNews) return undefined;
  return `machine ${machineId} was not made: ${reason}; the job waits for another, and this was no attempt of its own`;
}

/** What broke there once may break again: the next machine of this job goes elsewhere if it can. Returns whether it is news. */
async function avoidHost(
  { store, avoidedHosts }: JobActionDeps,
  jobId: number,
  machineId: string,
): Promise<boolean> {
  const machine = await store.machine(machineId);
  const hosts = avoidedHosts.get(jobId) ?? new Set();
  if (!machine || hosts.has(hostKey(machine))) return false;
  avoidedHosts.set(jobId, hosts.add(hostKey(machine)));
  return true;
}
