/**
 * The read model: jobs, machines and runners as people and programs outside see them, from the store, and with what the running program
 * knows besides. The same views serve the control socket and, when no FireRunner runs, the command line by itself.
 */
import { join } from "node:path";
import { systemClock } from "../base/clock.ts";
import type { LifecycleEvent } from "../domain/events.ts";
import { outcomeOf } from "../domain/job-end.ts";
import type { DeliveryStore, KnownProject, ManagedRunner, RunnerStore } from "../store/jobs-by-tag.ts";
import { openStoreReadOnly } from "../store/reads.ts";
import type { Job, JobStore, Store } from "../store/store.ts";
import {
  type EventView,
  type EventViews,
  type JobStory,
  JobView,
  type ListFilter,
  MachineView,
  type Views,
  type WaitingReport,
} from "./api.ts";
import { eventText } from "./event-text.ts";
import { explainJob, explainWaiting, unseenJob, waitingJob } from "./explanation.ts";
import { type UsageViews, usageOf } from "./usage.ts";
import { DeliveryView, RunnerView, type WebhookViews } from "./webhook-api.ts";

export type AllViews = Views & UsageViews & WebhookViews & EventViews;

const PAGE = 1_000;
/** A guest may fill its job's log with refused requests; nobody reads more than this. */
const MOST_EVENTS = 10_000;

export interface ViewDeps {
  readonly store: Pick<
    Store,
    "job" | "jobs" | "usage" | "machine" | "machines" | "events" | "lastEvent" | "trace"
  > &
    WebhookReads;
  readonly now: () => number;
  /** What the running program knows about an unfinished job beyond the store, in words: what it waits for. See `blockersOf`. */
  readonly explain?: (job: Job) => readonly string[] | Promise<readonly string[]>;
  /** The same of a job that waits in GitLab and has not been claimed. */
  readonly explainPending?: (jobId: number) => Promise<readonly string[]>;
}

export function createViews({ store, now, explain, explainPending }: ViewDeps): AllViews {
  async function claimed(job: Job): Promise<JobStory> {
    const events = await allEvents(store, job.id);
    const explanation = explainJob(job, events, now());
    const waits = job.state === "finished" || !explain ? [] : await explain(job);
    const cause = withoutRepeats([explanation.cause, ...waits]).join("; ");
    return {
      job: jobView(job),
      events: events.map(toEventView),
      explanation: { ...explanation, cause: cause || null },
      traceId: (await store.trace(job.id))?.traceId ?? null,
    };
  }

  async function unclaimed(id: number): Promise<WaitingReport | undefined> {
    const events = await allEvents(store, id);
    const told = explainPending ? await explainPending(id) : [];
    const waiting = waitingJob(id, events) ?? (told.length > 0 ? unseenJob(id) : undefined);
    if (waiting === undefined) return undefined;
    const explanation = explainWaiting(waiting, events, told, now());
    return { waiting, events: events.map(toEventView), explanation };
  }

  return {
    ...createWebhookViews(store),
    events: async (filter) => (await store.events(filter)).map(toEventView),
    lastEvent: () => store.lastEvent(),
    async jobs({ live, ...filter } = {}) {
      return (await store.jobs({ ...filter, ...(live ? { unfinished: true } : {}) })).map(jobView);
    },
    usage: async (filter) => usageOf(filter, await store.usage(filter)),
    async job(id) {
      const job = await store.job(id);
      return job === undefined ? await unclaimed(id) : await claimed(job);
    },
    async machines(filter: ListFilter = {}) {
      const { live, limit } = filter;
      const machines = await store.machines({ ...(live ? { live } : {}), ...(limit ? { limit } : {}) });
      return machines.map((machine) => MachineView.parse(machine));
    },
    liveMachines: async () => (await store.machines({ live: true })).length,
    async machine(id) {
      const machine = await store.machine(id);
      return machine && MachineView.parse(machine);
    },
  };
}

/** Parsing picks the public fields: the trace's bookkeeping stays inside. */
function jobView(job: Job): JobView {
  return JobView.parse({ ...job, outcome: outcomeOf(job) });
}

/** What is part of another says nothing more. */
function withoutRepeats(causes: readonly (string | null)[]): string[] {
  const given = [...new Set(causes.filter((each) => each !== null))];
  return given.filter((each) => !given.some((other) => other !== each && other.includes(bare(each))));
}

/** A problem without what led to it: the host's own words come back in what is said of the host. */
function bare(cause: string): string {
  return cause.replace(/^it could not be started: /, "");
}

function toEventView(event: LifecycleEvent): EventView {
  const { seq, at, kind, jobId, machineId, detail } = event;
  return { seq, at, kind, jobId, machineId, detail: { ...detail }, text: eventText(event) };
}

async function allEvents(store: ViewDeps["store"], jobId: number): Promise<LifecycleEvent[]> {
  const all: LifecycleEvent[] = [];
  while (all.length < MOST_EVENTS) {
    const afterSeq = all.at(-1)?.seq ?? 0;
    const page = await store.events({ jobId, afterSeq, limit: PAGE });
    all.push(...page);
    if (page.length < PAGE) break;
  }
  return all;
}

/** Jobs, machines and runners as the store has them, for when no FireRunner runs. Throws StoreError when there is no store. */
export async function openOfflineViews(
  stateDirectory: string,
): Promise<AllViews & { close(): Promise<void> }> {
  const store = await openStoreReadOnly(join(stateDirectory, "firerunner.db"));
  return { ...createViews({ store, now: systemClock.now }), close: () => store.close() };
}

/** What of the store these views read. */
type WebhookReads = Pick<RunnerStore, "runners"> &
  Pick<DeliveryStore, "deliveries" | "projects"> &
  Pick<JobStore, "jobs">;

/** Runners, deliveries and projects as people and programs outside see them. Reads only. */
function createWebhookViews(store: WebhookReads): WebhookViews {
  return {
    async runners({ gone } = {}) {
      const [runners, unfinished] = await Promise.all([
        store.runners(gone ? { gone } : {}),
        store.jobs({ unfinished: true }),
      ]);
      const inPool = Map.groupBy(unfinished, ({ pool }) => pool);
      return runners.map((runner) => ({
        ...toRunnerView(runner),
        unfinishedJobs: inPool.get(runner.pool)?.length ?? 0,
      }));
    },
    async deliveries({ since, limit } = {}) {
      const filter = { ...(since === undefined ? {} : { since }), ...(limit === undefined ? {} : { limit }) };
      return (await store.deliveries(filter)).map((delivery) => DeliveryView.parse(delivery));
    },
    async projects() {
      const projects = await store.projects();
      return { known: projects.length, due: projects.filter(isDue).length };
    },
  };
}

/** For one that was changed just now: nobody has claimed anything through it meanwhile. */
export function toRunnerView(runner: ManagedRunner): RunnerView {
  return RunnerView.parse({ ...runner, unfinishedJobs: 0 });
}

function isDue({ hookedAt, readAt }: KnownProject): boolean {
  return hookedAt !== null && (readAt === null || hookedAt >= readAt);
}
