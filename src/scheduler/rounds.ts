/**
 * The reconciler's loop: look at everything, plan, begin what was planned. Rounds follow each other and never wait for what they
 * begin. Starting up is an ordinary round, so nothing here knows of crashes.
 */
import type { Clock } from "../base/clock.ts";
import { describeError } from "../base/errors.ts";
import { createWaker } from "../base/wake-loop.ts";
import { createClockSteps } from "./clock-steps.ts";
import type { HostCapacities } from "./host-capacities.ts";
import { createRecheckQueue } from "./job-status.ts";
import { createHostLists, type Observed, observe } from "./observe.ts";
import { type Action, plan } from "./plan.ts";
import type { Refusals } from "./refusals.ts";
import { type HostView, type Mode, type Starts, startsIn } from "./snapshot.ts";
import { createTaskQueue, type TaskQueue, type TaskStatus } from "./task-queue.ts";
import { createTasks, fetchKeyOf, type Memory, type TaskDeps } from "./tasks.ts";

/** Rounds are at least so far apart: a burst of events is one round, and a busy guest cannot keep us looking. */
const ROUND_GAP_MS = 20;
/** Where there are many machines a round takes its time; four fifths of the time belong to others all the same. */
const GAP_PER_ROUND = 4;
const MOST_GAP_MS = 200;

export interface RoundReport {
  /** Epoch ms. */
  readonly at: number;
  readonly tookMs: number;
  /** What called for it: an event's kind, `tick`, … */
  readonly reason: string;
  /** What it began, in words. */
  readonly actions: readonly string[];
  readonly error: string | undefined;
}

interface RoundsDeps extends TaskDeps {
  readonly capacities: HostCapacities;
  readonly refusals: Refusals;
  /** A host that could not be used in the last round can be in this one. */
  readonly onRecovery: (host: string) => void;
}

export interface Rounds {
  /** One round after the other until the signal aborts. */
  run(signal: AbortSignal): Promise<void>;
  wake(reason: string): void;
  /** Somebody says that GitLab has ended this job: the next round asks. */
  recheck(jobId: number): void;
  mode(): Mode;
  setMode(mode: Mode): void;
  /** Resolves when a round finds no unfinished job and no machine; rejects with the signal's reason. */
  whenIdle(signal: AbortSignal): Promise<void>;
  /** Waits for what is being done; after `limitMs` it is interrupted. */
  settle(limitMs: number, reason: unknown): Promise<void>;
  last(): {
    readonly report: RoundReport | undefined;
    readonly seen: Observed | undefined;
    /** Of what was seen. */
    readonly starts: Starts | undefined;
  };
  work(): TaskStatus[];
  /** When the first round could begin (epoch ms). */
  readonly since: number;
}

export function createRounds(deps: RoundsDeps): Rounds {
  const { clock, config, log } = deps;
  const memory = newMemory(clock);
  const { rechecks } = memory;
  const waker = createWaker(clock);
  const tasks = createTaskQueue({ clock, random: deps.random, onFree: () => waker.wake("an action ended") });
  const lists = createHostLists({ ...deps, onLateAnswer: (key) => waker.wake(`${key} answers`) });
  const begin = createTasks(deps, memory, tasks);
  const idle = createIdleGate();
  const since = clock.now();
  const clockSteps = createClockSteps(deps);
  let mode: Mode = "run";
  let report: RoundReport | undefined;
  let seen: Observed | undefined;
  let starts: Starts | undefined;

  async function round(reason: string, signal: AbortSignal): Promise<void> {
    const at = clock.now();
    const own = { ...memory, ...clockSteps.known(), recheckAt: rechecks.due(), since, mode };
    const now = await observe({ ...deps, lists }, own, signal);
    if (signal.aborted) return;
    const actions = plan(now, config, clock.now()).filter(begin).map(describeAction);
    for (const host of recoveredIn(seen, now)) deps.onRecovery(host);
    seen = now;
    starts = undefined;
    report = { at, tookMs: clock.now() - at, reason, actions, error: undefined };
    forgetEnded(now, memory, tasks);
    if (actions.length > 0) log.debug({ reason, actions }, "round");
    if (isIdle(now)) idle.open();
  }

  async function run(signal: AbortSignal): Promise<void> {
    for (let reason = "start"; !signal.aborted; reason = await waker.next(config.tick, signal)) {
      clockSteps.look(config.tick + MOST_GAP_MS);
      const began = clock.now();
      try {
        await round(reason, signal);
      } catch (error) {
        if (signal.aborted) return;
        report = { at: clock.now(), tookMs: 0, reason, actions: [], error: describeError(error) };
        log.error({ error: describeError(error) }, "round failed");
      }
      await clock.sleep(gapAfter(clock.now() - began), signal).catch(() => {});
    }
  }

  return {
    run,
    since,
    wake: waker.wake,
    recheck(jobId) {
      rechecks.add(jobId);
      waker.wake(`job ${jobId} is said to have ended`);
    },
    mode: () => mode,
    setMode(next) {
      mode = next;
      waker.wake(next);
    },
    whenIdle(signal) {
      const opened = idle.wait(signal);
      waker.wake("somebody waits for the last job");
      return opened;
    },
    settle: tasks.settle,
    last() {
      starts ??= seen && startsIn(seen);
      return { report, seen, starts };
    },
    work: tasks.status,
  };
}

function newMemory(clock: Clock): Memory {
  return {
    listening: new Set(),
    askedAt: new Map(),
    rechecks: createRecheckQueue(clock),
    reportFailures: new Map(),
    starting: new Map(),
    avoidedHosts: new Map(),
    imageDisks: new Map(),
    fetchedMs: new Map(),
  };
}

function gapAfter(roundMs: number): number {
  return Math.min(MOST_GAP_MS, Math.max(ROUND_GAP_MS, GAP_PER_ROUND * roundMs));
}

function describeAction(action: Action): string {
  const subject = "machineId" in action ? action.machineId : `job ${action.jobId}`;
  return "reason" in action ? `${action.kind} ${subject}: ${action.reason}` : `${action.kind} ${subject}`;
}

/** Hosts that can be used now and could not in the last round, or were not there. */
function recoveredIn(before: Observed | undefined, now: Observed): string[] {
  if (!before) return [];
  return [...now.hosts].flatMap(([key, host]) =>
    isUsable(host) && !isUsable(before.hosts.get(key)) ? [key] : [],
  );
}

function isUsable(host: HostView | undefined): boolean {
  return host?.listed !== undefined && host.capacity?.closed === undefined;
}

function isIdle({ jobs, machines }: Observed): boolean {
  return jobs.length === 0 && machines.every(({ state }) => state === "gone");
}

/** What is remembered about jobs and machines that are over. */
function forgetEnded(seen: Observed, memory: Memory, tasks: TaskQueue): void {
  const jobs = new Set(seen.jobs.map(({ id }) => id));
  memory.rechecks.keep(jobs);
  for (const ofJobs of [memory.askedAt, memory.reportFailures, memory.avoidedHosts, memory.fetchedMs])
    for (const id of ofJobs.keys()) if (!jobs.has(id)) ofJobs.delete(id);
  const used = new Set<string>();
  for (const id of jobs) used.add(`job:${id}`).add(`status:${id}`);
  for (const { id } of seen.machines) used.add(`machine:${id}`).add(`stop:${id}`).add(fetchKeyOf(id));
  for (const { listed } of seen.hosts.values()) for (const { id } of listed ?? []) used.add(`machine:${id}`);
  tasks.forget((key) => !used.has(key));
}

interface IdleGate {
  /** Lets everybody through who waits now. */
  open(): void;
  /** Resolves at the next `open`; rejects with the signal's reason. */
  wait(signal: AbortSignal): Promise<void>;
}

function createIdleGate(): IdleGate {
  const waiting = new Set<() => void>();
  return {
    open() {
      for (const pass of waiting) pass();
      waiting.clear();
    },
    wait(signal) {
      return new Promise((resolve, reject) => {
        if (signal.aborted) return reject(signal.reason);
        const giveUp = () => {
          waiting.delete(pass);
          reject(signal.reason);
        };
        const pass = () => {
          signal.removeEventListener("abort", giveUp);
          resolve();
        };
        waiting.add(pass);
        signal.addEventListener("abort", giveUp, { once: true });
      });
    },
  };
}
