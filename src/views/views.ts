import type { LifecycleEvent } from "../domain/events.ts";
import { outcomeOf } from "../domain/job-end.ts";
import type { Job, Store } from "../store/store.ts";
import {
  type EventView,
  type JobStory,
  JobView,
  type ListFilter,
  MachineView,
  type Views,
  type WaitingReport,
} from "./api.ts";
import { eventText } from "./event-text.ts";
import { explainJob } from "./explanation.ts";
import { explainWaiting, unseenJob, waitingJob } from "./waiting-explanation.ts";
import type { WebhookViews } from "./webhook-api.ts";
import { createWebhookViews, type WebhookReads } from "./webhook-views.ts";

const PAGE = 1_000;
/** A guest may fill its job's log with refused requests; nobody reads more than this. */
const MOST_EVENTS = 10_000;

export interface ViewDeps {
  readonly store: Pick<Store, "job" | "jobs" | "machine" | "machines" | "events"> & WebhookReads;
  readonly now: () => number;
  /** What the running rooms know about an unfinished job beyond the store, in words: what it waits for. */
  readonly explain?: (jobId: number) => Promise<readonly string[]>;
  /** The same of a job that waits in GitLab and has not been claimed. */
  readonly explainPending?: (jobId: number) => Promise<readonly string[]>;
}

/** Jobs, machines and runners as people and programs outside see them. Reads only. */
export function createViews({ store, now, explain, explainPending }: ViewDeps): Views & WebhookViews {
  async function claimed(job: Job): Promise<JobStory> {
    const events = await allEvents(store, job.id);
    const explanation = explainJob(job, events, now());
    const waits = job.state === "finished" || !explain ? [] : await explain(job.id);
    const cause = withoutRepeats([explanation.cause, ...waits]).join("; ");
    return {
      job: jobView(job),
      events: events.map(toEventView),
      explanation: { ...explanation, cause: cause || null },
    };
  }

  async function unclaimed(id: number): Promise<WaitingReport | undefined> {
    const events = await allEvents(store, id);
    const words = explainPending ? await explainPending(id) : [];
    const waiting = waitingJob(id, events) ?? (words.length > 0 ? unseenJob(id) : undefined);
    if (waiting === undefined) return undefined;
    const explanation = explainWaiting(waiting, events, words, now());
    return { waiting, events: events.map(toEventView), explanation };
  }

  return {
    ...createWebhookViews(store),
    async jobs({ live, limit } = {}) {
      const filter = { ...(live ? { unfinished: true } : {}), ...(limit ? { limit } : {}) };
      return (await store.jobs(filter)).map(jobView);
    },
    async job(id) {
      const job = await store.job(id);
      return job === undefined ? await unclaimed(id) : await claimed(job);
    },
    async machines(filter: ListFilter = {}) {
      const { live, limit } = filter;
      const machines = await store.machines({ ...(live ? { live } : {}), ...(limit ? { limit } : {}) });
      return machines.map((machine) => MachineView.parse(machine));
    },
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

/** A trouble without what led to it: the host's own words come back in what is said of the host. */
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
