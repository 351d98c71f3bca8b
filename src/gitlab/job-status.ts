import { type Answer, header } from "./answer.ts";
import type { GitLabError } from "./errors.ts";
import { gitLabErrorOf } from "./failure.ts";
import { requestedWaitMs } from "./requested-wait.ts";
import type { RemoteJobStatus, TraceStatus } from "./runner-api.ts";

type Unavailable = Extract<RemoteJobStatus, { kind: "unavailable" }>;

/** What an answer to `PUT /jobs/:id` means. */
export function jobStatusOf(answer: Answer, now: number): RemoteJobStatus {
  if (answer.status === 200) return { kind: "accepted", status: statusOf(answer) };
  if (answer.status === 202) return { kind: "again", waitMs: intervalMsOf(answer) ?? 1_000 };
  return refusalOf(answer, now, "updating a job");
}

/** What an answer to `PATCH /jobs/:id/trace` means, for a patch that ended at `endBytes`. */
export function traceStatusOf(answer: Answer, endBytes: number, now: number): TraceStatus {
  const sizeBytes = traceSizeOf(answer);
  if (answer.status === 202) {
    const intervalMs = intervalMsOf(answer);
    return { kind: "accepted", sizeBytes: sizeBytes ?? endBytes, status: statusOf(answer), intervalMs };
  }
  if (answer.status === 416 && sizeBytes !== undefined) return { kind: "elsewhere", sizeBytes };
  return refusalOf(answer, now, "writing a trace");
}

/** No answer, or not now. `waitMs` is what was asked for; 0 when nothing was. */
export function unavailable(error: GitLabError, waitMs = 0): Unavailable {
  return { kind: "unavailable", waitMs, problem: error.message };
}

function refusalOf(answer: Answer, now: number, doing: string): RemoteJobStatus & TraceStatus {
  if (answer.status === 403 || answer.status === 404) return { kind: "over", status: statusOf(answer) };
  const error = gitLabErrorOf(answer.status, header(answer, "location"), doing);
  return unavailable(error, requestedWaitMs(answer.status, answer.headers, now));
}

function statusOf(answer: Answer): string | undefined {
  return header(answer, "job-status");
}

function intervalMsOf(answer: Answer): number | undefined {
  const seconds = Number(header(answer, "x-gitlab-trace-update-interval"));
  return Number.isFinite(seconds) && seconds > 0 ? seconds * 1_000 : undefined;
}

/** `Range: 0-<size>`: GitLab names the size, not the last offset. */
function traceSizeOf(answer: Answer): number | undefined {
  const size = /^0-(\d+)$/.exec(header(answer, "range") ?? "")?.[1];
  return size === undefined ? undefined : Number(size);
}
