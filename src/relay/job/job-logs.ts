import { StringDecoder } from "node:string_decoder";
import { untilAborted } from "../../base/deadline.ts";

/** Of each running job's log. GitLab has all of it; a disk of ours has none. */
const KEPT_BYTES = 64 * 1024;
const LINE_FEED = 0x0a;

/**
 * The end of the log of each job that runs here, as its runner has sent it and GitLab has taken it: for people who want to see what a job
 * does now. In memory alone; it begins anew when this program does, and goes with the machine.
 */
export interface JobLogs {
  /** `atBytes`: where in GitLab's log the bytes begin. What is known already is passed over. */
  add(jobId: number, atBytes: number, bytes: Uint8Array): void;
  /** Its last `maxBytes` at most, from the beginning of a line; undefined for a job of which nothing has come by. */
  tail(jobId: number, maxBytes: number): string | undefined;
  /** The same, and then what comes, until the job's machine is let go or the signal aborts. Whoever reads slowly misses what was in between. */
  follow(jobId: number, maxBytes: number, signal: AbortSignal): AsyncIterable<string>;
  /** Its machine is let go. */
  drop(jobId: number): void;
}

interface Kept {
  /** The last `KEPT_BYTES` at most. */
  bytes: Buffer;
  /** How long the log is: where `bytes` ends. */
  endBytes: number;
  /** Resolves with the next change. */
  changed: PromiseWithResolvers<void>;
  isOver: boolean;
}

export function createJobLogs(): JobLogs {
  const logs = new Map<number, Kept>();

  function tell(log: Kept): void {
    log.changed.resolve();
    log.changed = Promise.withResolvers();
  }

  function append(log: Kept, fresh: Uint8Array, endBytes: number): void {
    const last = fresh.subarray(Math.max(0, fresh.length - KEPT_BYTES));
    const before = log.bytes.subarray(Math.max(0, log.bytes.length + last.length - KEPT_BYTES));
    // A copy: what is left of a patch must not hold all of it.
    log.bytes = Buffer.concat([before, last]);
    log.endBytes = endBytes;
    tell(log);
  }

  return {
    add(jobId, atBytes, bytes) {
      const endBytes = atBytes + bytes.length;
      const log = logs.get(jobId) ?? fresh(atBytes);
      logs.set(jobId, log);
      if (endBytes <= log.endBytes) return;
      append(log, bytes.subarray(Math.max(0, log.endBytes - atBytes)), endBytes);
    },
    tail(jobId, maxBytes) {
      const log = logs.get(jobId);
      return log && wholeLines(log, maxBytes).toString("utf8");
    },
    async *follow(jobId, maxBytes, signal) {
      const log = logs.get(jobId);
      if (log) yield* textOf(log, maxBytes, signal);
    },
    drop(jobId) {
      const log = logs.get(jobId);
      if (!log) return;
      logs.delete(jobId);
      log.isOver = true;
      tell(log);
    },
  };
}

/** What is there, and then what comes. */
async function* textOf(log: Kept, maxBytes: number, signal: AbortSignal): AsyncGenerator<string> {
  const decoder = new StringDecoder("utf8");
  let next = wholeLines(log, maxBytes);
  let at = log.endBytes;
  while (!signal.aborted) {
    const text = decoder.write(next);
    if (text !== "") yield text;
    const isAtEnd = at === log.endBytes;
    if (isAtEnd && log.isOver) return;
    if (isAtEnd) await untilAborted(log.changed.promise, signal).catch(() => {});
    next = log.bytes.subarray(Math.max(0, log.bytes.length - (log.endBytes - at)));
    at = log.endBytes;
  }
}

function fresh(endBytes: number): Kept {
  return { bytes: Buffer.alloc(0), endBytes, changed: Promise.withResolvers(), isOver: false };
}

/** The end of what is kept; without the rest of a line whose beginning is not in it. */
function wholeLines({ bytes, endBytes }: Kept, maxBytes: number): Buffer {
  const last = bytes.subarray(Math.max(0, bytes.length - maxBytes));
  if (last.length === endBytes) return last;
  const lineEnd = last.indexOf(LINE_FEED);
  return lineEnd < 0 ? last : last.subarray(lineEnd + 1);
}
