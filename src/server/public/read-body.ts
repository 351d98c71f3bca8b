import type { IncomingMessage } from "node:http";

/** A body of more than this many chunks that are so short was cut into crumbs to cost us time; no proxy does that. */
const MANY_CHUNKS = 4_096;
const CRUMB_BYTES = 64;
/** Up to here a body is read as it comes; GitLab's Job Hooks have some 5 KB. */
const SHORT_BYTES = 64 * 1024;

interface BodyReading {
  readonly mostBytes: number;
  readonly onChunk?: (chunk: Buffer) => void;
  /** Has a long body wait for its turn before each further piece, so that many of them do not hold up the short ones. */
  readonly takeTurn?: TakeTurn;
  /** Ends the reading early. */
  readonly signal?: AbortSignal;
}

/**
 * How a body ended: all of it was read; the connection broke off, was too slow or broke the protocol; it was longer than
 * `mostBytes`; it came in crumbs; the signal was given. Except for the first there may be more to come, which nobody reads.
 */
export type BodyEnd = "complete" | "broken" | "too-long" | "crumbs" | "stopped";

/** Never rejects. */
export function readBody(raw: IncomingMessage, reading: BodyReading): Promise<BodyEnd> {
  const { mostBytes, onChunk, takeTurn, signal } = reading;
  return new Promise((resolve) => {
    let length = 0;
    let chunks = 0;
    let isReading = true;

    function end(how: BodyEnd): void {
      isReading = false;
      raw.off("data", onData).off("end", onEnd).off("close", onClose);
      signal?.removeEventListener("abort", onStop);
      if (how !== "complete") raw.pause();
      resolve(how);
    }
    function onData(chunk: Buffer): void {
      length += chunk.length;
      chunks++;
      const problem = problemOf(length, chunks, mostBytes);
      if (problem) return void end(problem);
      onChunk?.(chunk);
      if (takeTurn && length > SHORT_BYTES) {
        raw.pause();
        takeTurn(length, () => isReading && raw.resume());
      }
    }
    const onEnd = () => end(raw.complete ? "complete" : "broken");
    const onClose = () => end("broken");
    const onStop = () => end("stopped");

    // “close” says all there is to know; but an error without a listener would be thrown.
    raw.on("error", () => {});
    if (raw.readableEnded) return onEnd();
    if (raw.destroyed) return onClose();
    raw.on("data", onData).on("end", onEnd).on("close", onClose);
    signal?.addEventListener("abort", onStop);
  });
}

function problemOf(length: number, chunks: number, mostBytes: number): "too-long" | "crumbs" | undefined {
  if (length > mostBytes) return "too-long";
  return chunks > MANY_CHUNKS && length < chunks * CRUMB_BYTES ? "crumbs" : undefined;
}

/** How many are let go in one round of the event loop. */
const AT_ONCE = 2;

/**
 * Has work that comes in pieces done a few pieces in each round of the event loop, and everything else in between. Who has had least
 * so far goes first, `hadBytes` being what that is told by; among equals, who came first.
 */
export type TakeTurn = (hadBytes: number, go: () => unknown) => void;

interface Waiting {
  readonly hadBytes: number;
  readonly go: () => unknown;
}

export function createFairQueue(): TakeTurn {
  const waiting = new Set<Waiting>();

  function next(): Waiting | undefined {
    let least: Waiting | undefined;
    for (const each of waiting)
      if (each.hadBytes < (least?.hadBytes ?? Number.POSITIVE_INFINITY)) least = each;
    if (least) waiting.delete(least);
    return least;
  }

  function run(): void {
    const now = Array.from({ length: AT_ONCE }, next);
    // Before going: what goes may come back, and then waits for the next round.
    if (waiting.size > 0) setImmediate(run);
    for (const each of now) each?.go();
  }

  return (hadBytes, go) => {
    waiting.add({ hadBytes, go });
    if (waiting.size === 1) setImmediate(run);
  };
}
