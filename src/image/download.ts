import { createWriteStream } from "node:fs";
import { rename, rm, stat } from "node:fs/promises";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { EnvHttpProxyAgent, fetch, type Response } from "undici";
import type { Clock } from "../base/clock.ts";
import { describeError } from "../base/errors.ts";
import { hashFile, syncPath } from "./durable.ts";
import { ImageError } from "./errors.ts";

const CONNECT_TIMEOUT_MS = 10_000;
const SILENCE_TIMEOUT_MS = 30_000;
const RETRY_PAUSE_MS = 1_000;
const ATTEMPTS = 5;

export interface Download {
  readonly url: string;
  /** Appears only when it is complete and its sha256 is right; until then its bytes are in `<target>.part`. */
  readonly target: string;
  readonly sha256: string;
  readonly clock: Clock;
  readonly onBytes?: (doneBytes: number, totalBytes: number | undefined) => void;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Downloads a file, going on where an earlier try was cut off, in this run or in one before. Throws
 * `image_download_failed` when the server does not give it and `image_download_wrong` when it gives something else.
 */
export async function download(wanted: Download): Promise<void> {
  const part = `${wanted.target}.part`;
  const resumed = (await sizeOf(part)) > 0;
  await withDispatcher((dispatcher) => fetchWhole(wanted, part, dispatcher));
  let found = (await hashFile(part, wanted.signal)).sha256;
  if (found !== wanted.sha256 && resumed) {
    // The bytes of the earlier run may have been of another version of the file.
    await rm(part);
    await withDispatcher((dispatcher) => fetchWhole(wanted, part, dispatcher));
    found = (await hashFile(part, wanted.signal)).sha256;
  }
  if (found !== wanted.sha256) {
    await rm(part);
    throw new ImageError(
      "image_download_wrong",
      `${wanted.url} is not the file it should be: its sha256 is ${found}, not ${wanted.sha256}`,
      { hint: "check the mirror; if it can be trusted, its copy is damaged or of another version" },
    );
  }
  await syncPath(part);
  await rename(part, wanted.target);
}

/** Downloads a small text. */
export async function downloadText(url: string, maxBytes: number, signal?: AbortSignal): Promise<string> {
  return await withDispatcher(async (dispatcher) => {
    const response = await request(url, {}, dispatcher, signal);
    if (response.status !== 200) throw refused(url, response.status);
    const text = await response.text();
    if (text.length > maxBytes) throw new ImageError("image_download_wrong", `${url} is too long`);
    return text;
  });
}

async function fetchWhole(wanted: Download, part: string, dispatcher: EnvHttpProxyAgent): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      if (await fetchRest(wanted, part, dispatcher)) return;
    } catch (cause) {
      wanted.signal?.throwIfAborted();
      if (cause instanceof ImageError && !cause.retryable) throw cause;
      if (attempt >= ATTEMPTS) throw unreachable(wanted.url, cause);
      await wanted.clock.sleep(RETRY_PAUSE_MS * attempt, wanted.signal);
    }
  }
}

/** One request for what is missing. True when the file is whole. */
async function fetchRest(wanted: Download, part: string, dispatcher: EnvHttpProxyAgent): Promise<boolean> {
  const have = await sizeOf(part);
  const headers = have > 0 ? { range: `bytes=${have}-` } : {};
  const response = await request(wanted.url, headers, dispatcher, wanted.signal);
  if (response.status === 416) {
    // Nothing is left to send, or the file there is shorter than ours: the sha256 tells which.
    await response.body?.cancel();
    const total = Number(/\/(\d+)$/.exec(response.headers.get("content-range") ?? "")?.[1] ?? Number.NaN);
    if (total === have) return true;
    await rm(part);
    return false;
  }
  if (response.status !== 200 && response.status !== 206) {
    await response.body?.cancel();
    throw refused(wanted.url, response.status);
  }
  await append(wanted, part, response, response.status === 206 ? have : 0);
  return true;
}

async function append(wanted: Download, part: string, response: Response, from: number): Promise<void> {
  const length = response.headers.get("content-length");
  const total = length === null ? undefined : from + Number(length);
  let done = from;
  const body = response.body;
  if (!body) throw refused(wanted.url, response.status);
  const counted = async function* (source: AsyncIterable<Uint8Array>) {
    for await (const chunk of source) {
      done += chunk.length;
      wanted.onBytes?.(done, total);
      yield chunk;
    }
  };
  const file = createWriteStream(part, { flags: from > 0 ? "a" : "w", mode: 0o644 });
  await pipeline(Readable.fromWeb(body), counted, file, wanted.signal ? { signal: wanted.signal } : {});
  if (total !== undefined && done !== total)
    throw new Error(`the answer ended after ${done} of ${total} bytes`);
}

async function request(
  url: string,
  headers: Record<string, string>,
  dispatcher: EnvHttpProxyAgent,
  signal: AbortSignal | undefined,
): Promise<Response> {
  try {
    return await fetch(url, { headers, dispatcher, ...(signal ? { signal } : {}) });
  } catch (cause) {
    signal?.throwIfAborted();
    throw unreachable(url, cause);
  }
}

async function withDispatcher<T>(use: (dispatcher: EnvHttpProxyAgent) => Promise<T>): Promise<T> {
  const dispatcher = new EnvHttpProxyAgent({
    connect: { timeout: CONNECT_TIMEOUT_MS },
    headersTimeout: SILENCE_TIMEOUT_MS,
    bodyTimeout: SILENCE_TIMEOUT_MS,
  });
  try {
    return await use(dispatcher);
  } finally {
    await dispatcher.destroy();
  }
}

async function sizeOf(path: string): Promise<number> {
  return await stat(path).then(
    (status) => status.size,
    () => 0,
  );
}

function refused(url: string, status: number): ImageError {
  return new ImageError("image_download_failed", `${url} answered ${status}`, {
    retryable: status >= 500 || status === 429,
    hint: "check the version and the mirror",
  });
}

function unreachable(url: string, cause: unknown): ImageError {
  return new ImageError("image_download_failed", `${url} could not be downloaded (${describeError(cause)})`, {
    cause,
    retryable: true,
    hint: "check the network, or configure images.runnerMirror, or give a runner with --runner PATH",
  });
}
