import type { RunnerApi } from "../gitlab/runner-api.ts";
import type { JobResult } from "../lifecycle/states.ts";
import type { Store } from "../store/store.ts";
import type { Rest } from "./lanes.ts";
import { jobTokenOf, readPayload } from "./payload.ts";
import type { GuestDoor } from "./ports.ts";

/** What GitLab's `Job-Status` says about the end of a job that it no longer accepts anything for. */
export function resultOf(status: string | undefined): JobResult {
  return status === "success" || status === "failed" || status === "canceled" ? status : "unknown";
}

export interface StandingDeps {
  readonly store: Pick<Store, "job" | "payload" | "finishJob">;
  readonly api: Pick<RunnerApi, "updateJob">;
  readonly door: Pick<GuestDoor, "tellCanceling">;
  /** Shortest pause when GitLab did not answer. */
  readonly intervalMs: number;
}

/**
 * Asks GitLab whether a job is still wanted, by a heartbeat. A job that is over is finished here. A job that is being
 * canceled before its payload was handed over has no after_script to wait for: it is ended at once. One that runs is its
 * guest's to end.
 */
export async function checkStanding(
  { store, api, door, intervalMs }: StandingDeps,
  jobId: number,
  onAnswer: () => void,
): Promise<Rest | undefined> {
  const job = await store.job(jobId);
  if (!job || job.state === "failing" || job.state === "finished") return undefined;
  const jobToken = jobTokenOf(await readPayload(store, jobId));
  const answer = await api.updateJob({ jobId, jobToken, state: "running" });
  if (answer.kind === "unavailable") return { restMs: Math.max(answer.waitMs, intervalMs) };
  onAnswer();
  if (answer.kind === "over") {
    await store.finishJob(jobId, resultOf(answer.status), wordsFor(answer.status));
    return undefined;
  }
  const isStopping = answer.kind === "accepted" && answer.status === "canceling";
  if (!isStopping) return undefined;
  const now = await store.job(jobId);
  if (now?.state === "running") {
    if (now.machineId !== null) door.tellCanceling(now.machineId);
    return undefined;
  }
  const failureReason = "runner_system_failure";
  const end = await api.updateJob({ jobId, jobToken, state: "failed", failureReason });
  if (end.kind === "accepted" || end.kind === "over")
    await store.finishJob(jobId, "canceled", wordsFor("canceled"));
  return undefined;
}

function wordsFor(status: string | undefined): string | undefined {
  if (status === "canceled") return "canceled in GitLab";
  return resultOf(status) === "unknown" ? "GitLab no longer takes anything for this job" : undefined;
}
