import type { Clock } from "../base/clock.ts";
import { MIB_BYTES } from "../base/units.ts";
import { type Answer, header } from "../gitlab/answer.ts";
import type { RunnerApi } from "../gitlab/runner-api.ts";
import { traceStatusOf } from "../gitlab/runner-client.ts";
import type { Store } from "../store/store.ts";
import { Refusal } from "./errors.ts";
import { type Exchange, readBody } from "./exchange.ts";
import { single } from "./headers.ts";
import { type JobCaller, passOn } from "./job-call.ts";
import type { JobEnd } from "./job-end.ts";
import { admit, type JobSession } from "./job-session.ts";
import { ensureHead } from "./trace-head.ts";

const MAX_PATCH_BYTES = 4 * MIB_BYTES;

export interface AppendTraceOptions {
  readonly store: Store;
  readonly api: Pick<RunnerApi, "appendTrace">;
  readonly clock: Clock;
  readonly caller: JobCaller;
  readonly jobEnd: JobEnd;
  readonly traceLimitBytes: number;
  readonly intervalSeconds: number;
}

/**
 * `PATCH /jobs/:id/trace`: GitLab's trace is our head and then the runner's bytes, so the guest's offsets are shifted by the head on
 * the way there and back. A patch is acknowledged when GitLab has it; one that comes too early waits, and so the next is larger.
 */
export function createAppendTrace(
  options: AppendTraceOptions,
): (exchange: Exchange, jobId: number) => Promise<void> {
  const { store, api, clock, caller, jobEnd } = options;

  async function appendTrace(exchange: Exchange, jobId: number): Promise<void> {
    const { guest, request } = exchange;
    const token = single(request.headers["job-token"]);
    const session = await admit(store, guest, { jobId, token });
    const startBytes = startOf(request.headers["content-range"]);
    // Read when its turn has come: of a machine's patches one at a time is held, and the others wait outside.
    await guest.inTurn(async () => {
      await caller.pace(exchange);
      const body = await readBody(exchange, MAX_PATCH_BYTES);
      await holdLimit(session, session.head.length + startBytes + body.length);
      await patch(exchange, session, startBytes, body);
    });
  }

  async function patch(exchange: Exchange, session: JobSession, startBytes: number, body: Buffer) {
    await ensureHead({ api, store }, session, (status) => jobEnd.over(session, status));
    const at = startBytes + session.head.length;
    const endBytes = at + body.length;
    const answer = await caller.call(exchange, {
      method: "PATCH",
      headers: { "content-range": `${at}-${Math.max(at, endBytes - 1)}` },
      body,
    });
    await settle(exchange, session, answer, endBytes);
    passOn(exchange, answer, shiftedHeaders(session, answer, endBytes));
  }

  /** Makes what GitLab said durable, before the guest hears it. */
  async function settle(exchange: Exchange, session: JobSession, answer: Answer, endBytes: number) {
    const { guest } = exchange;
    const standing = traceStatusOf(answer, endBytes, clock.now());
    await jobEnd.heard(guest, session, header(answer, "job-status"));
    if (standing.kind === "over") await jobEnd.over(session, standing.status);
    if (standing.kind === "accepted") await store.setTraceSize(session.jobId, standing.sizeBytes);
    if (standing.kind === "elsewhere") {
      await store.setTraceSize(session.jobId, standing.sizeBytes);
      // GitLab has lost what it had: the next patch must bring our lines again.
      if (standing.sizeBytes < session.head.length) session.isHeadSent = false;
    }
  }

  function shiftedHeaders(session: JobSession, answer: Answer, endBytes: number) {
    const interval = { "x-gitlab-trace-update-interval": String(options.intervalSeconds) };
    const standing = traceStatusOf(answer, endBytes, clock.now());
    if (standing.kind !== "accepted" && standing.kind !== "elsewhere") return {};
    // Behind what the runner has told of are lines of ours, which it knows nothing of.
    const mostBytes = session.tail?.startBytes ?? Number.POSITIVE_INFINITY;
    const guestSize = Math.min(mostBytes, Math.max(0, standing.sizeBytes - session.head.length));
    return { range: `0-${guestSize}`, ...(standing.kind === "accepted" ? interval : {}) };
  }

  /** The runner stops by itself before that; one that does not is not believed in anything else either. */
  async function holdLimit(session: JobSession, endBytes: number): Promise<void> {
    if (endBytes <= options.traceLimitBytes) return;
    const reason = `the job's log grew beyond ${options.traceLimitBytes} bytes`;
    await store.failJob(session.jobId, { reason, cause: "log-limit" });
    throw new Refusal(413, "the job's log is too long", { rule: "trace-too-long" });
  }

  return appendTrace;
}

/** Of `<start>-<end>` only the start counts: runners disagree on whether the end is part of it, and GitLab ignores it. */
function startOf(range: string | undefined): number {
  if (range === undefined) throw new Refusal(400, "400 Bad Request - Content-Range is missing");
  const start = /^(?:bytes )?(\d{1,15})-\d{0,15}$/.exec(range)?.[1];
  if (start === undefined) throw new Refusal(400, "400 Bad Request - Content-Range is malformed");
  return Number(start);
}
