import { crc32 } from "node:zlib";
import type { Clock } from "../../base/clock.ts";
import { single } from "../../base/headers.ts";
import { oneLine } from "../../base/text.ts";
import { formatDuration, MIB_BYTES } from "../../base/units.ts";
import { RELAY_IN_GUEST } from "../../domain/drivers.ts";
import type { LifecycleEvent } from "../../domain/events.ts";
import { failures } from "../../domain/job-end.ts";
import { isLocalHost } from "../../domain/placement.ts";
import { describeSize } from "../../domain/size.ts";
import { type Answer, header } from "../../gitlab/answer.ts";
import { JobPayload, type RunnerApi, type TraceStatus } from "../../gitlab/runner-api.ts";
import { traceStatusOf } from "../../gitlab/runner-client.ts";
import { appendWithRecovery, crc32Combine, maskSecrets } from "../../gitlab/trace.ts";
import type { EventStore, Job, JobStore, Machine, Store } from "../../store/store.ts";
import { Refusal } from "../errors.ts";
import { type Exchange, readBody } from "../gateway/exchange.ts";
import type { JobSession } from "../gateway/guest.ts";
import { type JobCaller, passOn } from "./gitlab-calls.ts";
import type { JobLogs } from "./job-logs.ts";
import { admit, endedRefusal, type JobEnd } from "./job-session.ts";
import { foreignProxies } from "./payload.ts";

const MAX_PATCH_BYTES = 4 * MIB_BYTES;

interface AppendTraceOptions {
  readonly store: Store;
  readonly api: Pick<RunnerApi, "appendTrace">;
  readonly clock: Clock;
  readonly caller: JobCaller;
  readonly jobEnd: JobEnd;
  readonly traceLimitBytes: number;
  readonly intervalSeconds: number;
  /** What GitLab takes is shown here, too. */
  readonly logs: Pick<JobLogs, "add">;
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
    await guest.exclusively(async () => {
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
    const status = traceStatusOf(answer, endBytes, clock.now());
    await settle(exchange, session, answer, status);
    if (status.kind === "accepted") show(session, at, body);
    passOn(exchange, answer, shiftedHeaders(session, status));
  }

  function show({ jobId, head }: JobSession, at: number, body: Buffer): void {
    if (at === head.length) options.logs.add(jobId, 0, head);
    options.logs.add(jobId, at, body);
  }

  /** Makes what GitLab said durable, before the guest hears it. */
  async function settle({ guest }: Exchange, session: JobSession, answer: Answer, status: TraceStatus) {
    await jobEnd.heard(guest, session, header(answer, "job-status"));
    if (status.kind === "over") await jobEnd.over(session, status.status);
    if (status.kind === "accepted") await store.setTraceSize(session.jobId, status.sizeBytes);
    if (status.kind === "elsewhere") {
      await store.setTraceSize(session.jobId, status.sizeBytes);
      // GitLab has lost what it had: the next patch must bring our lines again.
      if (status.sizeBytes < session.head.length) session.headSentBytes = status.sizeBytes;
    }
  }

  function shiftedHeaders(session: JobSession, status: TraceStatus) {
    const interval = { "x-gitlab-trace-update-interval": String(options.intervalSeconds) };
    if (status.kind !== "accepted" && status.kind !== "elsewhere") return {};
    // Behind what the runner has told of are lines of ours, which it knows nothing of.
    const mostBytes = session.tail?.startBytes ?? Number.POSITIVE_INFINITY;
    const guestSize = Math.min(mostBytes, Math.max(0, status.sizeBytes - session.head.length));
    return { range: `0-${guestSize}`, ...(status.kind === "accepted" ? interval : {}) };
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

const CYAN = "\u001b[0;36m";
const YELLOW = "\u001b[0;33m";
const RESET = "\u001b[0;m";
const LONGEST_NAME = 200;

interface TraceHead {
  readonly job: Job;
  readonly machine: Machine;
  readonly payload: string;
  readonly now: number;
  readonly inContainers: boolean;
  /** Undefined where caches are kept. */
  readonly whyNoCaches: string | undefined;
}

/**
 * The lines that open the trace of a job at its hand-over, or nothing when an earlier try at it has written them. Machines that
 * died before are in `job.traceHead` already.
 */
export function composeTraceHead(head: TraceHead): string {
  const { job, machine, payload, now } = head;
  if (job.traceHead.includes(describeMachine(machine))) return "";
  const parsed = JobPayload.parse(JSON.parse(payload));
  return `${machineLine(job, machine, now)}${ignoredLines(head, parsed)}${proxyLine(machine, parsed)}`;
}

function machineLine(job: Job, machine: Machine, now: number): string {
  const readyAt = machine.readyAt ?? now;
  const sinceClaim = formatDuration(readyAt - job.claimedAt);
  const sinceCreation = formatDuration(readyAt - machine.createdAt);
  const where = `${describeSize(machine.size)}, ${machine.driver} on ${machine.host}`;
  return line(
    CYAN,
    `${describeMachine(machine)} (${where}) was ready ${sinceClaim} after the job was claimed, ${sinceCreation} after it was created.`,
  );
}

function describeMachine(machine: Machine): string {
  return `FireRunner: machine ${machine.id}`;
}

function ignoredLines({ inContainers, whyNoCaches }: TraceHead, payload: JobPayload): string {
  const image = payload.image?.name;
  const services = (payload.services ?? []).map((service) => service.name);
  const ignored = [
    ...(image ? [`image: ${image}`] : []),
    ...(services.length > 0 ? [`services: ${services.join(", ")}`] : []),
  ];
  const lines = (inContainers ? [] : ignored).map((text) =>
    ignoredLine(payload, text, "jobs of this pool run in the machine itself"),
  );
  if (payload.cache && payload.cache.length > 0 && whyNoCaches !== undefined)
    lines.push(ignoredLine(payload, describeCaches(payload.cache), whyNoCaches));
  return lines.join("");
}

function describeCaches(caches: NonNullable<JobPayload["cache"]>): string {
  const keys = caches.flatMap(({ key }) => (typeof key === "string" && key !== "" ? [key] : []));
  return keys.length === 0 ? "cache" : `cache: ${keys.join(", ")}`;
}

function ignoredLine(payload: JobPayload, text: string, why: string): string {
  return line(YELLOW, `FireRunner: “${shownText(text, payload)}” is ignored: ${why}.`);
}

function shownText(text: string, payload: JobPayload): string {
  return maskSecrets(oneLine(text), payload).slice(0, LONGEST_NAME);
}

/** A machine on this computer has no way to any proxy but ours; what one on another host can reach is that host's affair. */
function proxyLine({ host }: Machine, payload: JobPayload): string {
  const foreign = isLocalHost(host) ? foreignProxies(payload.variables ?? [], RELAY_IN_GUEST) : [];
  if (foreign.length === 0) return "";
  const shown = shownText(foreign.join(", "), payload);
  return line(
    YELLOW,
    `FireRunner: the job sets ${shown}: this machine cannot reach a proxy of that kind, its only way out is FireRunner's own and what the pool's egress allows. GitLab is reached without it.`,
  );
}

/** One line of ours in a job's log. */
function line(colour: string, text: string): string {
  return `${colour}${text}${RESET}\n`;
}

/**
 * Makes sure that GitLab has our head, so that the runner's bytes can follow it. Throws Refusal: 503 when GitLab does not answer,
 * GitLab's own 403 when the job is over (`onOver` has then been called with its status).
 */
export async function ensureHead(
  { api, store }: { api: Pick<RunnerApi, "appendTrace">; store: JobStore },
  session: JobSession,
  onOver: (status: string | undefined) => Promise<void>,
): Promise<void> {
  const { jobId, token: jobToken, head, headSentBytes } = session;
  if (headSentBytes >= head.length) return;
  const from = (startBytes: number) =>
    appendWithRecovery({ api, jobId, jobToken, startBytes, bytes: head.subarray(startBytes) });
  const first = await from(headSentBytes);
  const status = first.kind === "elsewhere" ? await from(0) : first;
  if (status.kind !== "accepted") throw await refusalOf(status, onOver);
  session.headSentBytes = head.length;
  await store.setTraceSize(jobId, status.sizeBytes);
}

/** What a guest is told when GitLab has not taken lines of ours; that its job is over is told to `onOver` first. */
async function refusalOf(
  status: TraceStatus,
  onOver: (status: string | undefined) => Promise<void>,
): Promise<Refusal> {
  if (status.kind === "over") {
    await onOver(status.status);
    return endedRefusal(status.status);
  }
  return new Refusal(503, "GitLab does not take the trace just now; try again", {
    headers: { "Retry-After": "3" },
  });
}

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
  const status = await appendWithRecovery({
    ...{ api, jobId, jobToken, bytes },
    startBytes: head.length + startBytes,
  });
  if (status.kind === "over" || status.kind === "unavailable") throw await refusalOf(status, onOver);
  // GitLab has less than the runner says it sent: what comes behind that would be nobody's.
  const sent = status.kind === "accepted" ? bytes : Buffer.alloc(0);
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
