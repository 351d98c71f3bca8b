/**
 * Console files: the hypervisor appends without end, so the driver cuts them. A cut keeps the newest half of the limit, and
 * followers are told how far the file moved under them.
 */
import { open, readFile, stat, truncate, writeFile } from "node:fs/promises";
import { StringDecoder } from "node:string_decoder";
import type { Clock } from "../../base/clock.ts";
import { systemCode } from "../../base/errors.ts";

const FOLLOW_MS = 200;
const READ_BYTES = 64 * 1024;

export interface Consoles {
  /** The last bytes as text; empty when there is no such file. */
  tail(path: string, maxBytes: number): Promise<string>;
  /** What is written from now on, until `isRunning` says no and all is read, or the signal aborts. */
  follow(path: string, isRunning: () => boolean, signal: AbortSignal): AsyncGenerator<string>;
  /** Cuts the file when it is over the limit. */
  trim(path: string): Promise<void>;
  forget(path: string): void;
}

export function createConsoles(clock: Clock, limitBytes: number): Consoles {
  /** Bytes cut off the front of each file so far. */
  const cutOff = new Map<string, number>();

  async function trim(path: string): Promise<void> {
    const size = await sizeOf(path);
    if (size <= limitBytes) return;
    const kept = await readRange(path, size - Math.floor(limitBytes / 2), size);
    // What is written between reading and cutting is lost: a guest that floods its console loses some of the flood.
    await truncate(path, 0);
    await writeFile(path, kept, { flag: "a" });
    cutOff.set(path, (cutOff.get(path) ?? 0) + size - kept.length);
  }

  async function* follow(
    path: string,
    isRunning: () => boolean,
    signal: AbortSignal,
  ): AsyncGenerator<string> {
    const decoder = new StringDecoder("utf8");
    let position = (await sizeOf(path)) + (cutOff.get(path) ?? 0);
    while (!signal.aborted) {
      // Asked before reading, so that the last words before the end are read.
      const running = isRunning();
      const offset = cutOff.get(path) ?? 0;
      const from = Math.max(0, position - offset);
      const bytes = await readRange(path, from, from + READ_BYTES);
      position = offset + from + bytes.length;
      const text = decoder.write(bytes);
      if (text !== "") yield text;
      else if (!running) return;
      else await clock.sleep(FOLLOW_MS, signal).catch(() => {});
    }
  }

  return {
    async tail(path, maxBytes) {
      const size = await sizeOf(path);
      return (await readRange(path, Math.max(0, size - maxBytes), size)).toString("utf8");
    },
    follow,
    trim,
    forget: (path) => cutOff.delete(path),
  };
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (systemCode(error) === "ENOENT") return 0;
    throw error;
  }
}

async function readRange(path: string, from: number, to: number): Promise<Buffer> {
  if (to <= from) return Buffer.alloc(0);
  try {
    await using file = await open(path, "r");
    const { buffer, bytesRead } = await file.read(Buffer.alloc(to - from), 0, to - from, from);
    return buffer.subarray(0, bytesRead);
  } catch (error) {
    if (systemCode(error) === "ENOENT") return Buffer.alloc(0);
    throw error;
  }
}

/** The last lines of a file, for an error message; empty when it cannot be read. */
export async function lastLines(path: string, count: number): Promise<string> {
  const text = await readFile(path, "utf8").catch(() => "");
  return text.trim().split("\n").slice(-count).join("; ");
}
