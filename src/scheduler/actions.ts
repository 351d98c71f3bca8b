/** What the actions of a plan do to jobs and machines. Each reads its row first: a round's decision may be older than the row. */

import type { Clock } from "../base/clock.ts";
import { describeError, explainError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { backoffMs } from "../base/rates.ts";
import type { JobFailure } from "../domain/job-end.ts";
import { hostKey, isLocalHost, livesOn } from "../domain/placement.ts";
import type { EventStore, JobStore, Machine, MachineStore, NewMachine } from "../store/store.ts";
import type { Fleet, VmDriver } from "../vm/driver.ts";
import { type ConsoleTailDeps, recordConsoleTail, recordMemoryKills } from "./console-tail.ts";
import { SchedulerError } from "./errors.ts";
import type { Action } from "./plan.ts";
import type { GuestEndpoint, ImageSource, Pools } from "./ports.ts";
import type { Refusals } from "./refusals.ts";
import { traceLine } from "./report.ts";
import type { Cooldown } from "./task-queue.ts";

// Jobs -----------------------------------------------------------------------------------------------------------

interface JobActionDeps {
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
interface JobActions {
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

// Machines -------------------------------------------------------------------------------------------------------

interface MachineDeps extends ConsoleTailDeps {
  readonly store: JobStore & MachineStore & EventStore;
  readonly images: ImageSource;
  readonly relay: GuestEndpoint;
  readonly log: Log;
  readonly refusals: Pick<Refusals, "note" | "noteMade">;
  /** Machines for which this process has the relay listen. */
  readonly listening: Set<string>;
  /** Disks with the images of jobs, by machine: what a create gives it. */
  readonly imageDisks: Map<string, readonly string[]>;
}

/** What is done to machines. */
interface MachineActions {
  create(machineId: string, host: string, signal: AbortSignal): Promise<void>;
  adopt(machineId: string, host: string): Promise<void>;
  destroy(machineId: string, host: string, signal: AbortSignal): Promise<void>;
  destroyUnknown(machineId: string, host: string, signal: AbortSignal): Promise<void>;
}

export function createMachineActions(deps: MachineDeps): MachineActions {
  const { store, relay, listening, log } = deps;
  const driverOf = (host: string, machineId: string) => driverAt(deps.fleet, host, machineId);

  async function listenFor(machineId: string, driver: VmDriver | undefined): Promise<void> {
    await relay.open(machineId, driver?.relaySocket(machineId));
    listening.add(machineId);
  }

  async function create(machineId: string, host: string, signal: AbortSignal): Promise<void> {
    const machine = await store.machine(machineId);
    const imageDisks = deps.imageDisks.get(machineId);
    // Without what its job needs it is not made: the next round gets that first.
    if (machine?.state !== "creating" || imageDisks === undefined) return;
    try {
      const driver = driverOf(host, machineId);
      const image = await deps.images.resolve(machine.image);
      await listenFor(machineId, driver);
      const link = () => relay.link(machineId);
      await driver.create({ id: machineId, size: machine.size, image, imageDisks, link }, signal);
    } catch (error) {
      // An interrupted create says nothing about the machine: the next start goes on with it.
      if (signal.reason instanceof SchedulerError && signal.reason.code === "scheduler_stopped") throw error;
      if (await giveUp(deps, machine, error)) deps.refusals.note(host, machine, error);
      return;
    }
    deps.refusals.noteMade(host, machine);
    await store.markBooting(machineId);
    deps.imageDisks.delete(machineId);
  }

  async function adopt(machineId: string, host: string): Promise<void> {
    const machine = await store.machine(machineId);
    if (!machine || machine.state === "stopping" || machine.state === "gone") return;
    // A host that was taken out of the configuration is not needed for its guests to come to the relay.
    const isElsewhere = !isLocalHost(machine.host);
    await listenFor(machineId, isElsewhere ? undefined : driverOf(host, machineId));
    const about = { jobId: machine.jobId ?? undefined, machineId };
    await store.note("machine:adopted", about, { state: machine.state });
  }

  async function destroy(machineId: string, host: string, signal: AbortSignal): Promise<void> {
    const machine = await store.machine(machineId);
    if (machine?.state !== "stopping") return;
    deps.imageDisks.delete(machineId);
    await recordMemoryKills(deps, machine, signal);
    try {
      await remove(deps, driverOf(host, machineId), machineId, signal);
    } catch (error) {
      const about = { jobId: machine.jobId ?? undefined, machineId };
      await store.note("machine:destroy-failed", about, { error: describeError(error) });
      throw error;
    }
    await store.markGone(machineId);
  }

  async function destroyUnknown(machineId: string, host: string, signal: AbortSignal): Promise<void> {
    const machine = await store.machine(machineId);
    if (livesOn(machine, host)) return;
    const driver = driverOf(host, machineId);
    // A list may be a moment old: look again before anything is destroyed.
    if ((await driver.inspect(machineId, signal)) === undefined) return;
    await store.note("machine:unknown", { machineId }, { host: driver.host });
    log.warn({ machineId, host }, "destroying a machine that the store does not know");
    // For one that belongs on another host the relay goes on to listen.
    if (machine && machine.state !== "gone") await driver.destroy(machineId, signal);
    else await remove(deps, driver, machineId, signal);
  }

  return { create, adopt, destroy, destroyUnknown };
}

function driverAt(fleet: MachineDeps["fleet"], host: string, machineId: string): VmDriver {
  const driver = fleet.hosts().get(host);
  if (driver) return driver;
  throw new SchedulerError(
    "scheduler_no_driver",
    `machine ${machineId} is on ${host}, which is not configured`,
    {
      hint: `configure ${host} again, so that its machines can be removed; if it is gone for good: firerunner hosts forget ${host}`,
    },
  );
}

/** Stops a machine that could not be started; its job notices and gets another. Returns whether it was still wanted. */
async function giveUp({ store, log }: MachineDeps, machine: Machine, error: unknown): Promise<boolean> {
  const words = explainError(error);
  const about = { jobId: machine.jobId ?? undefined, machineId: machine.id };
  // Whose guest has spoken runs, whatever became of the host's answer: it may have taken its job already.
  if ((await store.machine(machine.id))?.state !== "creating") {
    log.warn({ ...about, error: words }, "a host did not tell that a machine runs");
    return false;
  }
  if (!(await store.stopMachine(machine.id, `it could not be started: ${words}`))) return false;
  await store.note("machine:create-failed", about, { error: words });
  log.warn({ ...about, error: words }, "machine could not be started");
  return true;
}

/** The relay is closed first: what a guest says from now on changes nothing. */
async function remove(deps: MachineDeps, driver: VmDriver, machineId: string, signal: AbortSignal) {
  await deps.relay.close(machineId);
  deps.listening.delete(machineId);
  await driver.destroy(machineId, signal);
}
