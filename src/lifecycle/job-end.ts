import type { JobResult } from "./states.ts";

/** `Job-Status` values that say a job has ended. */
export function isJobResult(status: string | undefined): status is Exclude<JobResult, "unknown"> {
  return status === "success" || status === "failed" || status === "canceled";
}

/** What `Job-Status` says about the end of a job that GitLab no longer accepts anything for. */
export function resultOfStatus(status: string | undefined): JobResult {
  return isJobResult(status) ? status : "unknown";
}

/** Why a job ended so, in words, where GitLab and not the job's own script decided. */
export function reasonOfResult(result: JobResult): string | undefined {
  if (result === "canceled") return "canceled in GitLab";
  return result === "unknown" ? "GitLab no longer takes anything for this job" : undefined;
}
