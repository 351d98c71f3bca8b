/**
 * Which trace a job is in, and the ids of its spans, as W3C Trace Context writes them (hex, in small letters). All of them are derived: whoever
 * makes a trace anew, in another process too, makes the same.
 */
import { createHash } from "node:crypto";

/** A job's place among traces, fixed when it is claimed. */
export interface TraceContext {
  /** 32 hex digits. */
  readonly traceId: string;
  /** GitLab's own span around the job, 16 hex digits; null where GitLab sent none. */
  readonly parentSpanId: string | null;
}

const TRACE_ID = /^(?!0+$)[0-9a-f]{32}$/;
const SPAN_ID = /^(?!0+$)[0-9a-f]{16}$/;

/** The trace that GitLab sent with a job; undefined when it sent none, or what is no id of one. */
export function traceOfGitLab(traceId: unknown, parentSpanId: unknown): TraceContext | undefined {
  const [trace, parent] = [lowerCase(traceId), lowerCase(parentSpanId)];
  if (!TRACE_ID.test(trace)) return undefined;
  return { traceId: trace, parentSpanId: SPAN_ID.test(parent) ? parent : null };
}

function lowerCase(id: unknown): string {
  return typeof id === "string" ? id.toLowerCase() : "";
}

/** The trace of a job that GitLab put into none. GitLab gives each id to one run of a job: a retry there is another job. */
export function traceOfJob(installationId: string, jobId: number): TraceContext {
  return { traceId: idOf(32, "trace", installationId, String(jobId)), parentSpanId: null };
}

/** The id of one span of a trace: what there is once for each machine is told apart by the machine. */
export function spanIdOf(traceId: string, jobId: number, name: string, machineId = ""): string {
  // Jobs of one pipeline are in one trace of GitLab's.
  return idOf(16, "span", traceId, String(jobId), name, machineId);
}

function idOf(digits: number, ...parts: readonly string[]): string {
  const id = createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, digits);
  return /^0+$/.test(id) ? id.replace(/0$/, "1") : id;
}

/** The span of a job's own work in its machine. */
export const WORK_SPAN = "run";

/** Under which span a job hangs its own: known before that span is made, which is at the job's end. */
export function spanOfWork(
  { traceId, jobId }: { traceId: string; jobId: number },
  machineId: string,
): string {
  return spanIdOf(traceId, jobId, WORK_SPAN, machineId);
}

/** Hex digits of a trace id that decide: as many as a number holds exactly. */
const DECIDING_DIGITS = 13;

/**
 * Whether a trace is among the share (0 to 1) that is kept: decided by the end of its id, where ids are random, so that everybody who
 * samples the same share keeps the same traces, and a larger share keeps all of a smaller one.
 */
export function isSampled(traceId: string, share: number): boolean {
  return Number.parseInt(traceId.slice(-DECIDING_DIGITS), 16) >= (1 - share) * 16 ** DECIDING_DIGITS;
}

/** What a process is told by the variable TRACEPARENT: its own spans belong below this one. */
export function traceparentOf(traceId: string, spanId: string): string {
  return `00-${traceId}-${spanId}-01`;
}
