import type { Jobs } from "./jobs.ts";
import type { Job } from "./model.ts";
import type { JobStatus } from "./progress.ts";

export type Reached = JobStatus | ((job: Job) => boolean);

/** Resolves as soon as the job has come this far; rejects with what it looks like instead when `timeoutMs` is over. */
export async function waitForJob(book: Jobs, job: Job, reached: Reached, timeoutMs = 30_000): Promise<Job> {
  const holds = () => (typeof reached === "function" ? reached(job) : job.status === reached);
  if (holds()) return job;
  return await new Promise((resolve, reject) => {
    const stops = [book.onChange(check), job.trace.onAppend(check), () => clearTimeout(timer)];
    const timer = setTimeout(() => finish(() => reject(new Error(describeJob(job, reached)))), timeoutMs);
    function check(): void {
      if (holds()) finish(() => resolve(job));
    }
    function finish(settle: () => void): void {
      for (const stop of stops) stop();
      settle();
    }
  });
}

function describeJob(job: Job, reached: Reached): string {
  const { status, failureReason = "" } = job;
  const hoped = typeof reached === "string" ? reached : "what was waited for";
  return `job ${job.id} is ${status} ${failureReason}, not ${hoped}; its log ends: ${job.trace.text().slice(-500)}`;
}
