/** Uploads of blobs: `uploadBlob` sends one in pieces and goes on after failures, `createUploadCalls` makes its requests. */

import { type Readable, Transform } from "node:stream";
import type { Clock } from "../base/clock.ts";
import { MIB_BYTES } from "../base/units.ts";
import { type Answer, hasErrorCode, RegistryError, refusal } from "./errors.ts";
import { pauseAfter, type RegistrySession } from "./session.ts";

/** Few enough requests, each short enough for the limits of proxies. */
const CHUNK_BYTES = 16 * MIB_BYTES;
/** Failures in a row, without a byte arriving in between. */
const FAILURES_MAX = 5;

interface Deps {
  readonly session: RegistrySession;
  readonly clock: Clock;
  readonly signal?: AbortSignal | undefined;
  readonly chunkBytes?: number | undefined;
}

/**
 * Sends one blob, in pieces. It goes on where the connection broke as far as the registry remembers, and begins anew where it does
 * not.
 */
export async function uploadBlob(deps: Deps, request: UploadRequest): Promise<void> {
  const { session, clock, signal, chunkBytes = CHUNK_BYTES } = deps;
  const calls = createUploadCalls(session, request, chunkBytes);
  let upload: Upload | undefined;
  let best = 0;
  let failures = 0;

  async function recover(error: RegistryError): Promise<void> {
    failures += 1;
    if (failures >= FAILURES_MAX) throw error;
    await clock.sleep(pauseAfter(error, failures), signal);
    // A registry that is still away is asked again by the next attempt.
    upload = upload && (await calls.progressOf(upload).catch(() => upload));
    request.onBytes(upload?.offset ?? 0);
  }

  /** Undefined when all has arrived. */
  async function advance(): Promise<Upload | undefined> {
    upload ??= await calls.begin();
    const next = await calls.step(upload);
    if (next === "done") return undefined;
    if (next === "lost") {
      upload = undefined;
      throw lost(request);
    }
    if (next.offset > best) failures = 0;
    best = Math.max(best, next.offset);
    return next;
  }

  for (;;) {
    try {
      upload = await advance();
      if (!upload) return;
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof RegistryError) || !error.retryable) throw error;
      await recover(error);
    }
  }
}

function lost({ repository, blob }: UploadRequest): RegistryError {
  const what = `sending ${blob.digest.slice(0, 19)} to ${repository}`;
  return new RegistryError("registry_unavailable", `${what}: the registry loses what has been sent`, {
    hint: "look at its log; several registries behind one address need a storage in common",
    retryable: true,
  });
}

export interface Blob {
  readonly digest: string;
  readonly bytes: number;
  /** Bytes from `start` up to, but without, `end`. */
  read(start: number, end: number): Readable;
}

interface UploadRequest {
  readonly repository: string;
  readonly scopes: readonly string[];
  readonly blob: Blob;
  /** Bytes of this blob that have been sent. */
  readonly onBytes: (sent: number) => void;
}

interface Upload {
  readonly location: string;
  readonly offset: number;
}

interface UploadCalls {
  begin(): Promise<Upload>;
  /** Sends the next piece; the last one ends the upload. `lost`: the registry cannot go on with it. */
  step(upload: Upload): Promise<Upload | "done" | "lost">;
  /** How far the registry has come with an upload; undefined when it has forgotten it. */
  progressOf(upload: Upload): Promise<Upload | undefined>;
}

function createUploadCalls(
  session: RegistrySession,
  { repository, scopes, blob, onBytes }: UploadRequest,
  chunkBytes: number,
): UploadCalls {
  const doing = `sending ${blob.digest.slice(0, 19)} to ${repository}`;
  const locationOf = (answer: Answer) => safeLocation(answer, session.origin, doing);

  async function begin(): Promise<Upload> {
    const headers = { "content-length": "0" };
    const url = `/v2/${repository}/blobs/uploads/`;
    const answer = await session.send({ method: "POST", url, scopes, headers, doing });
    if (answer.status !== 202) throw refusal(answer, session.origin, doing);
    return { location: locationOf(answer), offset: 0 };
  }

  async function step({ location, offset }: Upload): Promise<Upload | "done" | "lost"> {
    const end = Math.min(blob.bytes, offset + chunkBytes);
    const isLast = end === blob.bytes && (offset === 0 || offset === end);
    const answer = isLast ? await put(location, offset) : await patch(location, offset, end);
    if (isLost(answer)) return "lost";
    if (isLast) return finished(answer);
    if (answer.status !== 202) throw refusal(answer, session.origin, doing);
    return { location: locationOf(answer), offset: arrived(answer) ?? end };
  }

  function finished(answer: Answer): "done" {
    if (answer.status === 201) return "done";
    throw refusal(answer, session.origin, doing);
  }

  async function patch(url: string, offset: number, end: number): Promise<Answer> {
    const headers = { ...contentHeaders(end - offset), "content-range": `${offset}-${end - 1}` };
    const body = () => counted(blob.read(offset, end), offset, onBytes);
    return await session.send({ method: "PATCH", url, scopes, headers, body, doing });
  }

  /** Ends the upload, with all of the blob or with nothing when all has been sent. */
  async function put(location: string, offset: number): Promise<Answer> {
    const url = withDigest(location, blob.digest);
    const headers = contentHeaders(blob.bytes - offset);
    const body = () =>
      offset === blob.bytes ? Buffer.alloc(0) : counted(blob.read(0, blob.bytes), 0, onBytes);
    return await session.send({ method: "PUT", url, scopes, headers, body, doing });
  }

  async function progressOf({ location }: Upload): Promise<Upload | undefined> {
    const answer = await session.send({ method: "GET", url: location, scopes, doing });
    if (answer.status !== 204) return undefined;
    const next = answer.header("location") === undefined ? location : locationOf(answer);
    return { location: next, offset: arrived(answer) ?? 0 };
  }

  return { begin, step, progressOf };
}

function contentHeaders(bytes: number): Record<string, string> {
  return { "content-type": "application/octet-stream", "content-length": String(bytes) };
}

function isLost(answer: Answer): boolean {
  const codes = [
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DIGEST_INVALID",
    "RANGE_INVALID",
    "SIZE_INVALID",
  ];
  return answer.status === 416 || codes.some((code) => hasErrorCode(answer, code));
}

/** Where the registry wants the bytes. Never in the clear when the registry itself is spoken with over TLS. */
function safeLocation(answer: Answer, origin: string, doing: string): string {
  const location = answer.header("location");
  const url = location && URL.canParse(location, origin) ? new URL(location, origin) : undefined;
  if (url && (url.protocol === "https:" || origin.startsWith("http:"))) return url.href;
  throw new RegistryError("registry_refused", `${doing}: ${origin} does not say where to send it`, {
    hint: "if the registry is behind a proxy, tell it its own address with https (X-Forwarded-Proto)",
  });
}

function withDigest(location: string, digest: string): string {
  const url = new URL(location);
  url.searchParams.set("digest", digest);
  return url.href;
}

/** The bytes a registry has: `Range` names the last one. An upload without any is `0-0`, too. */
function arrived(answer: Answer): number | undefined {
  const last = /^(?:bytes=)?0-(\d+)$/.exec(answer.header("range") ?? "")?.[1];
  if (last === undefined) return undefined;
  return last === "0" ? 0 : Number(last) + 1;
}

function counted(source: Readable, from: number, onBytes: (sent: number) => void): Readable {
  let sent = from;
  const counter = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      sent += chunk.length;
      onBytes(sent);
      done(null, chunk);
    },
  });
  source.on("error", (error) => counter.destroy(error));
  counter.on("close", () => source.destroy());
  return source.pipe(counter);
}
