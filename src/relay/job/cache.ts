/**
 * The caches of jobs. The runner in the machine takes the relay for a server of the kind S3, and signs its requests with keys that say
 * nothing: whose caches are asked for is a matter of the machine that asks, and of its job's payload (`cache/rights.ts`).
 */
import type { ServerResponse } from "node:http";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { describeError } from "../../base/errors.ts";
import { single } from "../../base/headers.ts";
import { formatBytes, MIB_BYTES } from "../../base/units.ts";
import type { CacheConfig } from "../../cache/config.ts";
import { CacheError } from "../../cache/errors.ts";
import { type CacheRequest, isKey, s3Error } from "../../cache/request.ts";
import { type CacheJob, placesFor, targetFor } from "../../cache/rights.ts";
import type { ByteRange, CacheObject, CacheStorage } from "../../cache/storage.ts";
import type { JobStore, MachineStore } from "../../store/store.ts";
import { Refusal } from "../errors.ts";
import { type Exchange, reply } from "../gateway/exchange.ts";
import type { Guest, JobSession } from "../gateway/guest.ts";
import { currentSession } from "./job-session.ts";

/** Where caches are kept, and what is said of them. */
export interface RelayCache {
  readonly storage: CacheStorage;
  readonly settings: Pick<CacheConfig, "objectSize" | "projectSize" | "separate">;
  /** Whether machines of this image (its digest) tell their runner of the relay's caches. */
  isKnownTo(image: string): Promise<boolean>;
  /** Told of each cache that a job asked for or gave, and what came of it. Must not throw. */
  readonly onCache?: CacheListener | undefined;
}

type CacheListener = (operation: "fetch" | "store", result: "success" | "miss" | "failure") => void;

interface CacheOptions {
  readonly store: JobStore & MachineStore;
  /** Undefined where none are kept. */
  readonly cache: RelayCache | undefined;
}

interface CacheHandlers {
  /** `GET` and `HEAD` of a cache. */
  fetch(exchange: Exchange, request: CacheRequest): Promise<void>;
  /** `PUT` of a cache. */
  store(exchange: Exchange, request: CacheRequest): Promise<void>;
}

export function createCacheHandlers({ store, cache }: CacheOptions): CacheHandlers {
  async function admitted(guest: Guest, { projectId }: CacheRequest) {
    if (cache === undefined) throw new Refusal(404, "FireRunner keeps no caches here (cache.enabled)");
    const session = await currentSession(store, guest);
    if (session?.cache === undefined) throw new Refusal(403, "this job has no caches");
    if (session.cache.projectId !== projectId) {
      throw new Refusal(403, "these are another project's caches", { rule: "cache-of-another-project" });
    }
    return { ...cache, session, job: session.cache };
  }

  async function fetch(exchange: Exchange, request: CacheRequest): Promise<void> {
    const { guest, signal } = exchange;
    const { storage, settings, job, onCache } = await admitted(guest, request);
    const object = await inWords(guest, () => found(storage, job, request, settings.separate, signal));
    const isAsked = exchange.request.method === "GET";
    if (isAsked) onCache?.("fetch", object === undefined ? "miss" : "success");
    if (object === undefined) return notThere(exchange);
    const part = partOf(object, single(exchange.request.headers.range));
    if (exchange.request.method === "HEAD") return void begin(exchange, object, part).end();
    const body = await inWords(guest, () => storage.read(object, part, signal));
    if (body === undefined) return notThere(exchange);
    await send(body, exchange, object, part);
  }

  async function put(exchange: Exchange, request: CacheRequest): Promise<void> {
    const { guest } = exchange;
    const { storage, settings, session, job, onCache } = await admitted(guest, request);
    const said = decodedHeader(single(exchange.request.headers["x-amz-meta-cachekey"]));
    const target = targetFor(job, request.name, said, settings.separate);
    if (target === undefined) {
      throw new Refusal(403, "this job's branch may not write this cache", {
        rule: "cache-of-other-branches",
      });
    }
    const bytes = lengthOf(exchange, session, settings);
    const { id, key } = target;
    // The guest's own stream: whoever reads it must not destroy it, or the guest would never hear why it was refused.
    const body = exchange.request;
    const storing = storage.store(id, { key, bytes, body }, exchange.signal);
    storing.then(
      () => onCache?.("store", "success"),
      () => onCache?.("store", "failure"),
    );
    await inWords(guest, () => storing);
    reply(exchange.response, 200, {});
  }

  return { fetch, store: put };
}

/** The first of the places that the job may look in at which there is one. */
async function found(
  storage: CacheStorage,
  job: CacheJob,
  { name }: CacheRequest,
  separate: CacheConfig["separate"],
  signal: AbortSignal,
): Promise<CacheObject | undefined> {
  for (const place of placesFor(job, name, separate)) {
    const object = await storage.find(place.id, signal);
    if (object && place.accepts(object.key)) return object;
  }
  return undefined;
}

/** Nothing unusual: the runner goes on to the next key, or without. */
function notThere({ response }: Exchange): void {
  reply(response, 404, { "content-type": "application/xml" }, s3Error(404, "there is no such cache"));
}

/** What is asked for of a cache. */
interface Part extends ByteRange {
  readonly isRange: boolean;
}

/** Throws Refusal 416 for a range that begins behind the end. */
function partOf({ bytes }: CacheObject, header: string | undefined): Part {
  const range = rangeOf(header, bytes);
  if (range !== "none of it")
    return range ? { ...range, isRange: true } : { first: 0, last: bytes - 1, isRange: false };
  throw new Refusal(416, "there are no such bytes", { headers: { "content-range": `bytes */${bytes}` } });
}

function begin({ response }: Exchange, object: CacheObject, { first, last, isRange }: Part): ServerResponse {
  return response.writeHead(isRange ? 206 : 200, {
    ...headersOf(object),
    "content-length": last - first + 1,
    ...(isRange ? { "content-range": `bytes ${first}-${last}/${object.bytes}` } : {}),
  });
}

/** A break on either side breaks the other: a cut cache must not look whole. */
async function send(body: Readable, exchange: Exchange, object: CacheObject, part: Part): Promise<void> {
  if (exchange.response.destroyed) return void body.destroy();
  await pipeline(body, begin(exchange, object, part)).catch(() => {});
}

function headersOf({ key, etag, storedAt }: CacheObject) {
  return {
    "content-type": "application/octet-stream",
    "last-modified": new Date(storedAt).toUTCString(),
    etag,
    "accept-ranges": "bytes",
    ...(key !== undefined && /^[\x20-\x7e]+$/.test(key) ? { "x-amz-meta-cachekey": key } : {}),
  };
}

/** One range of bytes; undefined for all of it, also where the header asks for what nobody needs to understand. */
function rangeOf(header: string | undefined, bytes: number): ByteRange | "none of it" | undefined {
  const [, from = "", to = ""] = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header ?? "") ?? [];
  if (from === "" && to === "") return undefined;
  const first = from === "" ? Math.max(0, bytes - Number(to)) : Number(from);
  const last = from === "" || to === "" ? bytes - 1 : Math.min(bytes - 1, Number(to));
  return first <= last ? { first, last } : "none of it";
}

/** As Node gives a header: its bytes as letters. */
function decodedHeader(value: string | undefined): string | undefined {
  if (value === undefined) return undefined;
  const key = Buffer.from(value, "latin1").toString("utf8");
  return isKey(key) ? key : undefined;
}

/** Counts it. Throws Refusal for more than a cache, or this job, may upload: retries of the runner count as well. */
function lengthOf(
  { request: { headers } }: Exchange,
  session: JobSession,
  { objectSize, projectSize }: Pick<CacheConfig, "objectSize" | "projectSize">,
): number {
  const length = headers["content-length"];
  if (length === undefined) throw new Refusal(411, "a cache is uploaded with its length");
  const bytes = Number(length);
  if (bytes > objectSize * MIB_BYTES) {
    const [most, this_] = [formatBytes(objectSize * MIB_BYTES), formatBytes(bytes)];
    throw new Refusal(413, `a cache may have ${most}, this one has ${this_} (cache.objectSize)`);
  }
  if (session.cachedBytes + bytes > projectSize * MIB_BYTES) {
    const most = formatBytes(projectSize * MIB_BYTES);
    throw new Refusal(413, `one job may upload caches of ${most} in all (cache.projectSize)`);
  }
  session.cachedBytes += bytes;
  return bytes;
}

/** For the job's log, in which nothing of this computer stands: the whole of it is in FireRunner's own. */
async function inWords<T>(guest: Guest, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof CacheError)) throw error;
    if (error.code !== "cache_cut")
      guest.log.write("warn", error.code, { error: describeError(error) }, "a cache could not be served");
    throw new Refusal(...answers[error.code], { cause: error });
  }
}

const answers: Readonly<Record<CacheError["code"], [status: number, words: string]>> = {
  cache_too_large: [413, "this cache is larger than FireRunner's whole room for caches"],
  cache_no_space: [507, "FireRunner has no room for this cache: its disk is full"],
  cache_cut: [400, "the upload of this cache was not as long as it said"],
  cache_directory: [503, "FireRunner's directory of caches cannot be used"],
  cache_server_refused: [403, "FireRunner's S3 server does not serve its caches; its log says why"],
  cache_server_unavailable: [503, "FireRunner's S3 server does not answer; its log says why"],
};
