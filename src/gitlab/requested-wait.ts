import type { IncomingHttpHeaders } from "node:http";

/** A server that names a later time than this is not believed. */
const LONGEST_WAIT_MS = 3_600_000;

/**
 * The wait that an answer asks for, in ms: the longest of `Retry-After` (seconds or HTTP date), `RateLimit-ResetTime` (HTTP date)
 * and `RateLimit-Reset` (epoch seconds). The RateLimit headers count only on a 429: GitLab sends them with good answers too.
 * 0 when nothing is asked for.
 */
export function requestedWaitMs(status: number, headers: IncomingHttpHeaders, now: number): number {
  const waits = [afterMs(headers["retry-after"], now)];
  if (status === 429) {
    waits.push(untilDateMs(text(headers["ratelimit-resettime"]), now));
    waits.push(untilEpochSecondsMs(text(headers["ratelimit-reset"]), now));
  }
  return Math.min(LONGEST_WAIT_MS, Math.max(0, ...waits));
}

function afterMs(value: string | undefined, now: number): number {
  if (value !== undefined && /^\s*\d+\s*$/.test(value)) return Number(value) * 1_000;
  return untilDateMs(value, now);
}

function untilDateMs(value: string | undefined, now: number): number {
  const at = Date.parse(value ?? "");
  return Number.isNaN(at) ? 0 : at - now;
}

function untilEpochSecondsMs(value: string | undefined, now: number): number {
  return value !== undefined && /^\d+$/.test(value) ? Number(value) * 1_000 - now : 0;
}

function text(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}
