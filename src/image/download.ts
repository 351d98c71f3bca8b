import { createWriteStream } from "node:fs";
import { rename, rm, stat } from "node:fs/promises";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { type Dispatcher, fetch, type Response } from "undici";
import { type Clock, systemClock } from "../base/clock.ts";
import { startDeadline } from "../base/deadline.ts";
import { hashFile, syncPath } from "../base/durable-file.ts";
import { describeError } from "../base/errors.ts";
import { createProxiedAgent } from "../base/proxy/agent.ts";
import { directRoutes, type ProxyRoutes } from "../base/proxy/routes.ts";
import { readBounded, TooLongError } from "../base/read-bounded.ts";
import { trustContext } from "../base/tls.ts";
import { formatBytes } from "../base/units.ts";
import { ImageError } from "./errors.ts";

const CONNECT_TIMEOUT_MS = 10_000;
const SILENCE_TIMEOUT_MS = 30_000;
const RETRY_PAUSE_MS = 1_000;
const ATTEMPTS = 5;
const MOST_REDIRECTS = 5;
/** For all of a small file; a large one may take as long as it goes on coming. */
const SMALL_FILE_LIMIT_MS = 60_000;

/** By which proxies a download may come. */
interface DownloadRules {
  /** True where the operator has said so: otherwise HTTP without TLS is for this computer alone. */
  readonly plainHttp: boolean;
  /** Through which proxies; by default through none. */
  readonly proxies?: ProxyRoutes | undefined;
}

export interface Download extends DownloadRules {
  readonly url: string;
  /** Appears only when it is complete and its sha256 is right; until then its bytes are in `<target>.part`. */
  readonly target: string;
  readonly sha256: string;
  /** Whatever is longer is refused before it fills the disk. */
  readonly maxBytes: number;
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
  await withDispatcher(wanted, (dispatcher) => fetchWhole(wanted, part, dispatcher));
  let found = (await hashFile(part, wanted.signal)).sha256;
  if (found !== wanted.sha256 && resumed) {
    // The bytes of the earlier run may have been of another version of the file.
    await rm(part);
    await withDispatcher(wanted, (dispatcher) => fetchWhole(wanted, part, dispatcher));
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

export interface SmallDownload extends DownloadRules {
  readonly url: string;
  readonly maxBytes: number;
  readonly signal?: AbortSignal | undefined;
}

/** Downloads a file that is small enough to be held. Throws as `download` does. */
export async function downloadSmall({ url, maxBytes, signal, ...rules }: SmallDownload): Promise<Buffer> {
  const limit = startDeadline(systemClock, SMALL_FILE_LIMIT_MS, signal);
  const answer = withDispatcher(rules, async (dispatcher) => {
    const response = await request(url, {}, dispatcher, rules, limit.signal);
    if (response.status !== 200) {
      await response.body?.cancel();
      throw refused(url, response.status);
    }
    try {
      return await readSmall(response, url, maxBytes);
    } catch (cause) {
      signal?.throwIfAborted();
      throw cause instanceof ImageError ? cause : unreachable(url, cause);
    }
  });
  return await answer.finally(limit.clear);
}

async function readSmall(response: Response, url: string, maxBytes: number): Promise<Buffer> {
  if (response.body === null) return Buffer.alloc(0);
  // One that is too long is not read on, which ends the transfer.
  const { bytes, cut } = await readBounded(response.body, maxBytes);
  if (cut !== undefined) throw cut instanceof TooLongError ? tooLong(url, maxBytes) : cut;
  return bytes;
}

async function fetchWhole(wanted: Download, part: string, dispatcher: Dispatcher): Promise<void> {
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
async function fetchRest(wanted: Download, part: string, dispatcher: Dispatcher): Promise<boolean> {
  const have = await sizeOf(part);
  const headers = have > 0 ? { range: `bytes=${have}-` } : {};
  const response = await request(wanted.url, headers, dispatcher, wanted, wanted.signal);
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
  if (total !== undefined && total > wanted.maxBytes) {
    await body.cancel();
    throw tooLong(wanted.url, wanted.maxBytes);
  }
  const counted = async function* (source: AsyncIterable<Uint8Array>) {
    for await (const chunk of source) {
      done += chunk.length;
      if (done > wanted.maxBytes) throw tooLong(wanted.url, wanted.maxBytes);
      wanted.onBytes?.(done, total);
      yield chunk;
    }
  };
  const file = createWriteStream(part, { flags: from > 0 ? "a" : "w", mode: 0o644 });
  await pipeline(Readable.fromWeb(body), counted, file, wanted.signal ? { signal: wanted.signal } : {});
  if (total !== undefined && done !== total)
    throw new Error(`the answer ended after ${done} of ${total} bytes`);
}

/** Redirects are followed here and not by `fetch`, because none may lead to a way that is not allowed. */
async function request(
  url: string,
  headers: Record<string, string>,
  dispatcher: Dispatcher,
  rules: DownloadRules,
  signal: AbortSignal | undefined,
): Promise<Response> {
  let here = requireAllowed(url, rules);
  for (let hops = 0; ; hops++) {
    const response = await fetchOnce(here, headers, dispatcher, signal);
    const location = response.headers.get("location");
    if (![301, 302, 303, 307, 308].includes(response.status) || location === null) return response;
    await response.body?.cancel();
    if (hops >= MOST_REDIRECTS)
      throw new ImageError("image_download_failed", `${url} leads from one address to the next without end`, {
        hint: "check the mirror",
      });
    here = redirected(here, location, rules);
  }
}

async function fetchOnce(
  url: URL,
  headers: Record<string, string>,
  dispatcher: Dispatcher,
  signal: AbortSignal | undefined,
): Promise<Response> {
  try {
    return await fetch(url.href, { headers, dispatcher, redirect: "manual", ...(signal ? { signal } : {}) });
  } catch (cause) {
    signal?.throwIfAborted();
    throw unreachable(url.href, cause);
  }
}

/** From a way that is secured none leads to one that is not, and from another computer none to this one. */
function redirected(from: URL, location: string, rules: DownloadRules): URL {
  const to = URL.canParse(location, from.href) ? new URL(location, from.href) : undefined;
  const isWorse =
    to?.protocol === "http:" && (from.protocol === "https:" || (isLoopback(to) && !isLoopback(from)));
  if (to && !isWorse) return requireAllowed(to.href, rules);
  throw new ImageError(
    "image_download_insecure",
    `${from.href} leads to ${to?.href ?? "no address"}, which is not followed`,
    {
      hint: "check the mirror: it must answer itself, or lead to an https address",
    },
  );
}

function requireAllowed(url: string, { plainHttp }: DownloadRules): URL {
  const address = new URL(url);
  if (address.protocol === "https:") return address;
  if (address.protocol === "http:" && (plainHttp || isLoopback(address))) return address;
  throw new ImageError(
    "image_download_insecure",
    `${url} is not downloaded: anybody on the way could change it`,
    {
      hint: "name an https address; for a mirror in your own network that has none, say --allow-http-mirror or images.allowHttpMirror: true",
    },
  );
}

/** What never leaves this computer. */
function isLoopback({ hostname }: URL): boolean {
  return hostname === "localhost" || hostname === "[::1]" || /^127(\.\d{1,3}){3}$/.test(hostname);
}

async function withDispatcher<T>(
  { proxies = directRoutes }: DownloadRules,
  use: (dispatcher: Dispatcher) => Promise<T>,
): Promise<T> {
  const secureContext = trustContext([proxies.ca]);
  const dispatcher = createProxiedAgent({
    proxies,
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
    secureContext: () => secureContext,
    headersTimeoutMs: SILENCE_TIMEOUT_MS,
    bodyTimeoutMs: SILENCE_TIMEOUT_MS,
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

function tooLong(url: string, maxBytes: number): ImageError {
  return new ImageError(
    "image_download_wrong",
    `${url} is longer than the ${formatBytes(maxBytes)} it may have`,
    {
      hint: "check the mirror: it serves something else",
    },
  );
}

function unreachable(url: string, cause: unknown): ImageError {
  return new ImageError("image_download_failed", `${url} could not be downloaded (${describeError(cause)})`, {
    cause,
    retryable: true,
    hint: "check the network, or configure images.runnerMirror, or give a runner with --runner PATH",
  });
}
