import { crc32 } from "node:zlib";
import type { LifecycleEvent } from "../domain/events.ts";
import { failures } from "../domain/job-end.ts";
import type { RunnerApi } from "../gitlab/runner-api.ts";
import { JobPayload } from "../gitlab/runner-api.ts";
import { appendWithRecovery, crc32Combine, maskSecrets } from "../gitlab/trace.ts";
import type { EventStore, JobStore } from "../store/store.ts";
import type { JobSession } from "./job-session.ts";
import { line, refusalOf, YELLOW } from "./trace-head.ts";

/** The rest is in `why`. */
const MOST_LINES = 10;

interface Parts {
  readonly api: Pick<RunnerApi, "appendTrace">;
  readonly store: Pick<EventStore, "events"> & Pick<JobStore, "payload" | "setTraceSize">;
}

/**
 * Puts behind the log of a job that failed which hosts it did not get to, and why: one line for each; and what is to be done about a time
 * limit that is over. Comes before the runner's final update
 * is passed on, whose sums then cover these lines. After a restart of this program the same lines are made again of the same events, and
 * GitLab says that it has them. Throws Refusal: 503 when GitLab does not answer, GitLab's own 403 when the job is over (`onOver` has then been called).
 */
export async function ensureTail(
  { api, store }: Parts,
  session: JobSession,
  startBytes: number,
  onOver: (status: string | undefined) => Promise<void>,
): Promise<void> {
  if (session.tail) return;
  const { jobId, token: jobToken, head } = session;
  const bytes = Buffer.from(await tailText(store, session), "utf8");
  const standing = await appendWithRecovery({
    ...{ api, jobId, jobToken, bytes },
    startBytes: head.length + startBytes,
  });
  if (standing.kind === "over" || standing.kind === "unavailable") throw await refusalOf(standing, onOver);
  // GitLab has less than the runner says it sent: what comes behind that would be nobody's.
  const sent = standing.kind === "accepted" ? bytes : Buffer.alloc(0);
  session.tail = { startBytes, bytes: sent, crc: crc32(sent) };
  if (sent.length > 0) await store.setTraceSize(jobId, head.length + startBytes + sent.length);
}

/** Size and CRC-32 of the whole trace, by those of the runner's part. */
export function wholeTrace({ head, headCrc, tail }: JobSession, bytesize: number) {
  const ours = tail?.startBytes === bytesize ? tail : undefined;
  return {
    bytesize: head.length + bytesize + (ours?.bytes.length ?? 0),
    crcOf(crc: number): number {
      const withHead = crc32Combine(headCrc, crc, bytesize);
      return ours ? crc32Combine(withHead, ours.crc, ours.bytes.length) : withHead;
    },
  };
}

async function tailText(store: Parts["store"], { jobId, told }: JobSession): Promise<string> {
  const events = await store.events({ jobId });
  const sentences = [...new Set(events.flatMap(sentenceOf))];
  const hints = told?.failureReason === "job_execution_timeout" ? [failures["time-limit"].hint] : [];
  const payload = sentences.length + hints.length > 0 ? await store.payload(jobId) : undefined;
  if (payload === undefined) return "";
  const more = sentences.length - MOST_LINES;
  const lines = sentences.slice(0, MOST_LINES);
  if (more > 0) lines.push(`${more} more ways out failed: “firerunner why ${jobId}” names them.`);
  const job = JobPayload.parse(JSON.parse(payload));
  return [...lines, ...hints].map((text) => line(YELLOW, `FireRunner: ${maskSecrets(text, job)}`)).join("");
}

function sentenceOf(event: LifecycleEvent): string[] {
  if (event.kind === "egress:refused")
    return [`${event.detail.target} was refused to this job: ${event.detail.reason}.`];
  if (event.kind === "egress:failed")
    return [`this job did not get to ${event.detail.target}: ${event.detail.reason}.`];
  return [];
}
