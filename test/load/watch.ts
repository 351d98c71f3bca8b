/** What becomes of each job, seen from GitLab, from the machines' hosts and from the guests; never from the manager. */
import { isProcessing, type Job, type JobStatus } from "@firerunner/gitlab-stand-in/model";
import type { StandInGitLab } from "@firerunner/gitlab-stand-in/stand-in";
import type { GuestRun } from "../harness/fleet-guests.ts";

/** One job. Times are epoch ms, undefined until they have happened. */
export interface JobCourse {
  readonly job: Job;
  /** GitLab began to tell the hook that it is pending. */
  hookedAt: number | undefined;
  /** GitLab had the first line of its script. */
  firstLineAt: number | undefined;
  /** Its machine's host has nothing of it any more. */
  machineGoneAt: number | undefined;
}

/** How many jobs there are at one moment. */
export interface Moment {
  readonly at: number;
  readonly pending: number;
  readonly running: number;
  readonly ended: number;
}

export interface Watch {
  readonly courses: ReadonlyMap<number, JobCourse>;
  readonly moments: readonly Moment[];
  /** Jobs that have not ended. */
  openCount(): number;
  now(): Moment;
  stop(): void;
}

interface WatchOptions {
  readonly gitlab: StandInGitLab;
  /** Guests that were given a job so far, oldest first. */
  readonly runs: readonly Pick<GuestRun, "jobId" | "machineId">[];
  /** Machines of which a host has anything, also what is not theirs alone. */
  readonly machineIds: () => Iterable<string>;
  /** What only a script's own output holds, at its beginning. */
  readonly firstWords: string;
}

const LOOK_MS = 50;
const MOMENT_MS = 1_000;

export function watchJobs(options: WatchOptions): Watch {
  const { gitlab, runs } = options;
  const courses = new Map<number, JobCourse>();
  const moments: Moment[] = [];
  const counts = { pending: 0, running: 0, ended: 0 };
  const before = new Map<number, keyof typeof counts | undefined>();
  /** Jobs by the machines that hosts still have. */
  const alive = new Map<string, number>();
  let runsSeen = 0;
  let lastDelivery: (typeof gitlab.hooks.deliveries)[number] | undefined;

  function follow(job: Job): JobCourse {
    const known = courses.get(job.id);
    if (known) return known;
    const course: JobCourse = {
      job,
      ...{ hookedAt: undefined, firstLineAt: undefined, machineGoneAt: undefined },
    };
    courses.set(job.id, course);
    // In one piece with what stands before it, or not: a piece is looked for in all that has come.
    const stop = job.trace.onAppend(() => {
      if (!job.trace.text().includes(options.firstWords)) return;
      course.firstLineAt = Date.now();
      stop();
    });
    return course;
  }

  function count(job: Job): void {
    const was = before.get(job.id);
    const is = kindOf(job);
    if (was) counts[was] -= 1;
    if (is) counts[is] += 1;
    before.set(job.id, is);
  }

  function lookAtDeliveries(): void {
    const { deliveries } = gitlab.hooks;
    const seen = lastDelivery === undefined ? -1 : deliveries.lastIndexOf(lastDelivery);
    for (const { jobId, status, at } of deliveries.slice(seen + 1)) {
      const course = jobId === undefined || status !== "pending" ? undefined : courses.get(jobId);
      if (course) course.hookedAt ??= at;
    }
    lastDelivery = deliveries.at(-1);
  }

  function lookAtMachines(): void {
    for (; runsSeen < runs.length; runsSeen++) {
      const run = runs[runsSeen];
      if (run) alive.set(run.machineId, run.jobId);
    }
    const there = new Set(options.machineIds());
    for (const [machineId, jobId] of alive) {
      if (there.has(machineId)) continue;
      const course = courses.get(jobId);
      if (course) course.machineGoneAt = Date.now();
      alive.delete(machineId);
    }
  }

  const now = (): Moment => ({ at: Date.now(), ...counts });
  const stops = [
    gitlab.jobs.onCreate(follow),
    gitlab.jobs.onChange(count),
    every(LOOK_MS, lookAtMachines),
    every(MOMENT_MS, () => {
      lookAtDeliveries();
      moments.push(now());
    }),
  ];
  return {
    courses,
    moments,
    now,
    openCount: () => counts.pending + counts.running,
    stop() {
      for (const stop of stops) stop();
      lookAtDeliveries();
      moments.push(now());
    },
  };
}

function every(ms: number, work: () => void): () => void {
  const timer = setInterval(work, ms);
  return () => clearInterval(timer);
}

const endings: readonly JobStatus[] = ["success", "failed", "canceled"];

function kindOf(job: Job): "pending" | "running" | "ended" | undefined {
  if (job.status === "pending") return "pending";
  if (isProcessing(job)) return "running";
  return endings.includes(job.status) ? "ended" : undefined;
}
