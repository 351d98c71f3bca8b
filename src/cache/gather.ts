import type { Readable } from "node:stream";

/**
 * Hands on what comes in large pieces: the next is gathered while one is being taken. In flowing mode, since a socket that is stopped and
 * started for every chunk takes several times as long. Resolves when all has been taken; rejects as `take` does, and with what ends the
 * stream early. The stream is left alone then: whoever has it may still answer on it.
 */
export function gather(
  body: Readable,
  pieceBytes: number,
  take: (piece: readonly Buffer[]) => Promise<void>,
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let piece: Buffer[] = [];
  let gathered = 0;
  let isTaking = false;
  let isOver = body.readableEnded;

  function next(): void {
    if (isTaking || (gathered < pieceBytes && !isOver)) return;
    if (gathered === 0) {
      end();
      return;
    }
    const full = piece;
    [piece, gathered, isTaking] = [[], 0, true];
    if (body.isPaused()) body.resume();
    take(full).then(() => {
      isTaking = false;
      next();
    }, end);
  }
  function onData(chunk: Buffer): void {
    piece.push(chunk);
    gathered += chunk.length;
    next();
    if (gathered >= pieceBytes) body.pause();
  }
  function onEnd(): void {
    isOver = true;
    next();
  }
  function onClose(): void {
    if (!body.readableEnded) end(new Error("the stream was closed before its end"));
  }
  function end(error?: unknown): void {
    body.off("data", onData).off("end", onEnd).off("close", onClose).pause();
    if (error === undefined) resolve();
    else reject(error);
  }

  // Stays: an error after the end is nobody's.
  body.on("error", end);
  if (isOver) next();
  else if (body.destroyed) onClose();
  else body.on("data", onData).on("end", onEnd).on("close", onClose);
  return promise;
}
