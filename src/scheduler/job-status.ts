/** Whether GitLab still wants a job: how it is asked, and about which jobs sooner than usual. */

import type { Clock } from "../base/clock.ts";
import { endByGitLab, failureReasonOf, resultOfStatus } from "../domain/job-end.ts";
import type { RunnerApi } from "../gitlab/runner-api.ts";
import type { JobStore } from "../store/store.ts";
import { jobTokenOf, readPayload } from "./payload.ts";
import type { GuestEndpoint } from "./ports.ts";
import type { Cooldown } from "./task-queue.ts";

interface JobStatusDeps {
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
  { store, api, relay, intervalMs }: JobStatusDeps,
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

/** One job is asked about at most so often: GitLab allows 200 questions a minute, and the guest needs most of them. */
const GAP_MS = 1_000;

/**
 * Jobs of which somebody says that GitLab has ended them. Nobody is believed: GitLab is asked, at once and not only after the usual
 * interval. What a restart forgets is asked about after that interval.
 */
export interface RecheckQueue {
  add(jobId: number): void;
  /** From when on GitLab may be asked (epoch ms), by job. */
  due(): ReadonlyMap<number, number>;
  /** To be called before GitLab is asked. Call what it returns when GitLab has answered: a request of the meantime stays. */
  begin(jobId: number): () => void;
  /** Keeps those of these jobs only. */
  keep(jobs: ReadonlySet<number>): void;
}

export function createRecheckQueue(clock: Clock): RecheckQueue {
  const dueAt = new Map<number, number>();
  const answeredAt = new Map<number, number>();
  const marks = new Map<number, symbol>();
  return {
    add(jobId) {
      dueAt.set(jobId, Math.max(clock.now(), (answeredAt.get(jobId) ?? 0) + GAP_MS));
      marks.set(jobId, Symbol("recheck"));
    },
    due: () => dueAt,
    begin(jobId) {
      const mark = marks.get(jobId);
      return () => {
        if (mark !== undefined) answeredAt.set(jobId, clock.now());
        if (marks.get(jobId) === mark) dueAt.delete(jobId);
      };
    },
    keep(jobs) {
      for (const known of [dueAt, answeredAt, marks])
        for (const id of known.keys()) if (!jobs.has(id)) known.delete(id);
    },
  };
}
