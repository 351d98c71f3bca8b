/** Joins what was planned with what does it: each action gets its key, its time limit and its place beside the others. */
import pLimit from "p-limit";
import type { Clock } from "../base/clock.ts";
import { describeError } from "../base/errors.ts";
import { newMachineId } from "../base/ids.ts";
import type { Log } from "../base/log.ts";
import { DAY_MS } from "../base/units.ts";
import type { PlacementPolicy } from "../domain/placement.ts";
import type { RunnerApi } from "../gitlab/runner-api.ts";
import type { Store } from "../store/store.ts";
import type { Fleet } from "../vm/driver.ts";
import { createJobActions, createMachineActions } from "./actions.ts";
import type { SchedulerConfig } from "./config.ts";
import { SchedulerError } from "./errors.ts";
import { fetchImages } from "./fetch.ts";
import type { RecheckQueue } from "./job-status.ts";
import { pollJobStatus } from "./job-status.ts";
import type { Action } from "./plan.ts";
import type { GuestEndpoint, ImageSource, JobImages, Pools } from "./ports.ts";
import type { Refusals } from "./refusals.ts";
import { report } from "./report.ts";
import type { Cooldown, Task, TaskQueue, TaskStatus } from "./task-queue.ts";

export interface TaskDeps {
  readonly store: Store;
  readonly fleet: Fleet;
  readonly images: ImageSource;
  readonly jobImages: JobImages;
  readonly api: RunnerApi;
  readonly relay: GuestEndpoint;
  readonly pools: Pools;
  readonly clock: Clock;
  readonly log: Log;
  readonly random: () => number;
  readonly newMachineId?: () => string;
  readonly config: SchedulerConfig;
  readonly placement: PlacementPolicy;
}

/** What this process remembers between rounds, and a restart may forget. */
export interface Memory {
  /** Machines for which the relay listens. */
  readonly listening: Set<string>;
  /** When GitLab last answered our own question how a job stands. */
  readonly askedAt: Map<number, number>;
  readonly rechecks: RecheckQueue;
  /** Reports that GitLab did not take, by job. */
  readonly reportFailures: Map<number, number>;
  /** Hosts of jobs whose machine's row is being written, by job. */
  readonly starting: Map<number, string>;
  /** Hosts where a machine of a job was lost, by job. */
  readonly avoidedHosts: Map<number, Set<string>>;
  /** Disks with the images of jobs, by machine that is being created; none of a machine whose job's images are still to come. */
  readonly imageDisks: Map<string, readonly string[]>;
  /** How long a job waited for its images, by job: that is no time of its start. */
  readonly fetchedMs: Map<number, number>;
}

/** Store moves and the reading of an image: long enough for a busy disk. */
const SHORT_LIMIT_MS = 30_000;
/** Several requests to GitLab, each with the time limits of its own client. */
const GITLAB_LIMIT_MS = 120_000;
const GITLAB_AT_ONCE = 32;
/** The pool limits how long images may take (containers.pullDeadline); this is no limit for anybody. */
const FETCH_LIMIT_MS = 20 * DAY_MS;

type Limiter = Task["limiter"];
const atOnce: Limiter = (work) => work();

/** Returns whether the action was begun: it is not while its key is taken or cools down. */
export type Begin = (action: Action) => boolean;

function keyOf(action: Action): string {
  switch (action.kind) {
    case "startMachine":
    case "retryJob":
    case "failJob":
    case "report":
      return `job:${action.jobId}`;
    // GitLab being slow must not hold up the failure of a job.
    case "checkStatus":
      return `status:${action.jobId}`;
    // A machine can be stopped while its driver still creates it.
    case "stopMachine":
      return `stop:${action.machineId}`;
    default:
      return `machine:${action.machineId}`;
  }
}

const FETCH = "fetch:";

/** Its own: a machine can be destroyed while the images of its job are fetched. */
export function fetchKeyOf(machineId: string): string {
  return `${FETCH}${machineId}`;
}

/** Machines that wait for the images of their jobs. */
export function fetchingIn(work: readonly TaskStatus[]): Set<string> {
  const running = work.filter(({ key, cooldown }) => cooldown === undefined && key.startsWith(FETCH));
  return new Set(running.map(({ key }) => key.slice(FETCH.length)));
}

export function createTasks(
  deps: TaskDeps & { readonly refusals: Refusals },
  memory: Memory,
  tasks: TaskQueue,
): Begin {
  const { store, config, log } = deps;
  const jobs = createJobActions({
    ...deps,
    newMachineId: deps.newMachineId ?? (() => newMachineId()),
    attempts: config.attempts,
    avoidedHosts: memory.avoidedHosts,
  });
  const { listening, imageDisks } = memory;
  const machines = createMachineActions({ ...deps, listening, imageDisks });
  const limitersOf = createLimiters(config, deps.fleet);

  /** The machine is created in the same breath: its job is waiting. */
  async function startMachine(jobId: number, host: string): Promise<undefined> {
    try {
      const machineId = await jobs.startMachine(jobId, host);
      if (machineId !== undefined) begin({ kind: "create", machineId, host });
    } finally {
      memory.starting.delete(jobId);
    }
  }

  async function perform(action: Action, signal: AbortSignal): Promise<Cooldown | undefined> {
    switch (action.kind) {
      case "startMachine":
        return await startMachine(action.jobId, action.host);
      case "retryJob":
        return await jobs.retry(action, signal);
      case "failJob":
        return void (await jobs.fail(action.jobId, action, signal));
      case "report":
        return await tryReport(deps, memory, action.jobId);
      case "checkStatus":
        return await askStatus(deps, memory, action.jobId);
      case "stopMachine":
        return void (await store.stopMachine(action.machineId, action.reason));
      default:
        return void (await machines[action.kind](action.machineId, action.host, signal));
    }
  }

  function begin(action: Action): boolean {
    const isEnding = action.kind === "stopMachine" || action.kind === "destroy";
    if (isEnding) tasks.abort(fetchKeyOf(action.machineId), superseded());
    if (action.kind !== "create" || imageDisks.has(action.machineId)) return beginNow(action);
    return tasks.start(fetchTask(action, { ...deps, ...memory }, () => begin(action)));
  }

  function beginNow(action: Action): boolean {
    const names = namesOf(action, log);
    const running = tasks.running(names.key);
    // What is being created for nobody is not waited for; a removal that takes longer than a round is.
    if (action.kind === "destroy" && running !== names.name) tasks.abort(names.key, superseded());
    const [limiter, limitMs] = limitersOf(action);
    const work = (signal: AbortSignal) => perform(action, signal);
    // A thousand answers that change nothing are no reason to look at everything as often; one that does has its event.
    const isQuiet = action.kind === "checkStatus";
    const isBegun = tasks.start({ ...names, limiter, limitMs, isQuiet, work });
    if (isBegun && action.kind === "startMachine") memory.starting.set(action.jobId, action.host);
    return isBegun;
  }

  return begin;
}

async function tryReport(deps: TaskDeps, memory: Memory, jobId: number): Promise<Cooldown | undefined> {
  const failures = memory.reportFailures.get(jobId) ?? 0;
  const outcome = await report(deps, jobId, failures);
  if (outcome !== "postponed") return outcome;
  memory.reportFailures.set(jobId, failures + 1);
  return undefined;
}

async function askStatus(deps: TaskDeps, memory: Memory, jobId: number): Promise<Cooldown | undefined> {
  const onAnswer = memory.rechecks.begin(jobId);
  return await pollJobStatus({ ...deps, intervalMs: deps.config.standingInterval }, jobId, () => {
    memory.askedAt.set(jobId, deps.clock.now());
    onAnswer();
  });
}

/** Before a machine is created the images of its job must be here. Holds up no other machine of its host. */
function fetchTask(
  action: Extract<Action, { readonly kind: "create" }>,
  deps: TaskDeps & Memory,
  create: () => void,
): Task {
  return {
    ...namesOf(action, deps.log),
    key: fetchKeyOf(action.machineId),
    name: `fetch images for ${action.machineId}`,
    limiter: atOnce,
    limitMs: FETCH_LIMIT_MS,
    async work(signal) {
      if (await fetchImages(deps, action.machineId, signal)) create();
      return undefined;
    },
  };
}

function superseded(): SchedulerError {
  return new SchedulerError("scheduler_superseded", "the machine is not wanted any more");
}

function namesOf(action: Action, log: Log): Pick<Task, "key" | "name" | "onFailure"> {
  const subject = "machineId" in action ? action.machineId : `job ${action.jobId}`;
  return {
    key: keyOf(action),
    name: `${action.kind} ${subject}`,
    onFailure: (error, failures) =>
      log.warn({ ...action, failures, error: describeError(error) }, "action failed and will be repeated"),
  };
}

/** The limiter and the time limit of each action; creates and destroys are limited by host. */
function createLimiters(config: SchedulerConfig, fleet: Fleet): (action: Action) => [Limiter, number] {
  const perHost = new Map<string, Limiter>();
  const gitlab: Limiter = pLimit(GITLAB_AT_ONCE);
  const named = (name: string, most: number): Limiter => {
    const limiter = perHost.get(name) ?? pLimit(most);
    perHost.set(name, limiter);
    return limiter;
  };
  return (action) => {
    switch (action.kind) {
      case "create":
        return [
          named(`create ${action.host}`, config.createsPerHost),
          createLimitMs(config, fleet, action.host),
        ];
      case "destroy":
      case "destroyUnknown":
        return [named(`destroy ${action.host}`, config.destroysPerHost), config.destroyTimeout];
      case "report":
      case "checkStatus":
        return [gitlab, GITLAB_LIMIT_MS];
      default:
        return [atOnce, SHORT_LIMIT_MS];
    }
  };
}

function createLimitMs({ createTimeout }: SchedulerConfig, fleet: Fleet, host: string): number {
  return Math.max(createTimeout, fleet.hosts().get(host)?.createLimitMs ?? 0);
}
