import { endByGitLab, failureReasonOf, resultOfStatus } from "../domain/job-end.ts";
import type { RunnerApi } from "../gitlab/runner-api.ts";
import type { JobStore } from "../store/store.ts";
import { jobTokenOf, readPayload } from "./payload.ts";
import type { GuestEndpoint } from "./ports.ts";
import type { Cooldown } from "./task-queue.ts";

export interface PollJobStatusDeps {
  readonly store: Pick<JobStore, "job" | "payload" | "finishJob">;
  readonly api: Pick<RunnerApi, "updateJob">;
  readonly relay: Pick<GuestEndpoint, "tellCanceling">;
  /** Shortest pause when GitLab did not answer. */
  readonly intervalMs: number;
}

/**
 * Asks GitLab whether a job is still wanted, by a heartbeat. A job that is over is finished here. A job that is being
 * canceled before its payload was handed over has no after_script to wait for: it is ended at once. One that runs is its
 * guest's to end.
 */
export async function pollJobStatus(
  { store, api, relay, intervalMs }: PollJobStatusDeps,
  jobId: number,
  onAnswer: () => void,
): Promise<Cooldown | undefined> {
  const job = await store.job(jobId);
  if (!job || job.state === "failing" || job.state === "finished") return undefined;
  const jobToken = jobTokenOf(await readPayload(store, jobId));
  const answer = await api.updateJob({ jobId, jobToken, state: "running" });
  if (answer.kind === "unavailable") return { forMs: Math.max(answer.waitMs, intervalMs) };
  onAnswer();
  if (answer.kind === "over") {
    const result = resultOfStatus(answer.status);
    await store.finishJob(jobId, result, endByGitLab(result));
    return undefined;
  }
  const isStopping = answer.kind === "accepted" && answer.status === "canceling";
  if (!isStopping) return undefined;
  const now = await store.job(jobId);
  if (now?.state === "running") {
    if (now.machineId !== null) relay.tellCanceling(now.machineId);
    return undefined;
  }
  const failureReason = failureReasonOf("never-started");
  const end = await api.updateJob({ jobId, jobToken, state: "failed", failureReason });
  if (end.kind === "accepted" || end.kind === "over")
    await store.finishJob(jobId, "canceled", endByGitLab("canceled"));
  return undefined;
}
