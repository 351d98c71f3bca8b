import { formatDuration } from "../base/units.ts";
import type { LifecycleEvent } from "../domain/events.ts";
import type { Explanation, WaitingJob } from "./api.ts";

const standings = {
  "job:noticed": "waiting",
  "job:left-alone": "left-alone",
  "job:no-longer-pending": "gone",
} as const;

type Told = Extract<LifecycleEvent, { kind: keyof typeof standings }>;

/** What the events say of a job that waits in GitLab or did so, and was never claimed here. Undefined when they know nothing of it. */
export function waitingJob(id: number, events: readonly LifecycleEvent[]): WaitingJob | undefined {
  const told = events.filter((event): event is Told => event.kind in standings);
  const first = told[0];
  const last = told.at(-1);
  const about = told.findLast((event) => event.kind !== "job:no-longer-pending")?.detail;
  if (!first || !last || !about) return undefined;
  const { project, name, tags } = about;
  return { id, project, name, tags: [...tags], standing: standings[last.kind], noticedAt: first.at };
}

/** For a job that is in no event. */
export function unseenJob(id: number): WaitingJob {
  return { id, project: "", name: "", tags: [], standing: "unseen", noticedAt: null };
}

/** `words`: what the running rooms know of its wait; empty when none runs, or when they know of nothing. Pure. */
export function explainWaiting(
  job: WaitingJob,
  events: readonly LifecycleEvent[],
  words: readonly string[],
  now: number,
): Explanation {
  switch (job.standing) {
    case "waiting":
      return {
        summary: `Job ${job.id} waits in GitLab for a runner of ours, noticed ${formatDuration(Math.max(0, now - (job.noticedAt ?? now)))} ago.`,
        cause: words.join("; ") || null,
        advice: [
          "“firerunner runner list” shows the runners, “firerunner status” whether machines of its size can be started.",
        ],
      };
    case "left-alone": {
      const reason = reasonIn(events);
      return {
        summary: `Job ${job.id} is left to wait in GitLab: no machine of ours can run it.`,
        cause: [reason, ...words.filter((word) => word !== reason)].join("; ") || null,
        advice: adviceForTags(job, reason),
      };
    }
    case "gone":
      return {
        summary: `Job ${job.id} does not wait in GitLab any more, and was not claimed here.`,
        cause: words.join("; ") || null,
        advice: ["Another runner took it, or it was canceled or deleted: its page in GitLab says which."],
      };
    case "unseen":
      return {
        summary: `Job ${job.id} was neither claimed nor seen waiting here.`,
        cause: words.join("; ") || null,
        advice: ["“firerunner webhook status” shows which projects are known and whether their hooks work."],
      };
  }
}

function adviceForTags({ tags }: WaitingJob, reason: string): string[] {
  const key = /webhook\.[a-z.]*[a-z]/i.exec(reason)?.[0];
  const correct = `Correct the job's tags in .gitlab-ci.yml (${tags.join(", ")}); docs/webhooks.md has their grammar.`;
  return key === undefined
    ? [correct]
    : [correct, `Or let such jobs in: change ${key}, then “firerunner reload”.`];
}

function reasonIn(events: readonly LifecycleEvent[]): string {
  const last = events.findLast((event) => event.kind === "job:left-alone");
  return last?.kind === "job:left-alone" ? last.detail.reason : "";
}
