/** Where caches lie: a directory of this computer (`local-storage.ts`), or a server of the kind S3 (`s3-storage.ts`). */
import type { Readable } from "node:stream";
import type { CacheId } from "./rights.ts";

/** A cache that is there. */
export interface CacheObject {
  readonly id: CacheId;
  /** Undefined when it was stored by a hashed name only. */
  readonly key: string | undefined;
  readonly bytes: number;
  /** Epoch ms. */
  readonly storedAt: number;
  /** The same for the same content only; in quotes. */
  readonly etag: string;
}

/** Both ends count. */
export interface ByteRange {
  readonly first: number;
  readonly last: number;
}

export interface CacheEntry extends CacheObject {
  /** When it was stored or last fetched; undefined where nobody knows. */
  readonly usedAt: number | undefined;
}

export interface NewCache {
  readonly key: string | undefined;
  /** As long as the body says it is. */
  readonly bytes: number;
  /** Destroyed only when the signal aborts. */
  readonly body: Readable;
}

/** Which caches are meant. */
export interface CacheFilter {
  readonly projectId?: number | undefined;
  /** Only those that nobody stored or fetched since (epoch ms). */
  readonly unusedSince?: number | undefined;
}

/** All may throw CacheError, and the reason of `signal`. */
export interface CacheStorage {
  /** Undefined when it is not there. */
  find(id: CacheId, signal: AbortSignal): Promise<CacheObject | undefined>;
  /** Its bytes, as a stream that must be read or destroyed. Undefined when it is gone meanwhile. */
  read(object: CacheObject, range: ByteRange, signal: AbortSignal): Promise<Readable | undefined>;
  /** Puts it in the place of the one before, when all of it is there and not earlier. */
  store(id: CacheId, cache: NewCache, signal: AbortSignal): Promise<void>;
  /** The last used first. */
  list(filter: CacheFilter, signal: AbortSignal): Promise<CacheEntry[]>;
  remove(entry: CacheEntry, signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

/** The place of a cache below all others of its storage: the same in a directory and on a server. */
export function placeOf({ projectId, realm, digest }: CacheId): string {
  return `project/${projectId}/${realm}/${digest}`;
}

const place = /^project\/([1-9]\d{0,14})\/(protected|unprotected|shared)\/([0-9a-f]{64})$/;

/** Undefined for what is not the place of a cache. */
export function idAt(text: string): CacheId | undefined {
  const [, projectId, realm, digest] = place.exec(text) ?? [];
  if (projectId === undefined || realm === undefined || digest === undefined) return undefined;
  return { projectId: Number(projectId), realm: realm as CacheId["realm"], digest };
}

/** GitLab's address as part of a place: two installations of GitLab have projects with the same numbers. */
export function siteOf({ origin, basePath }: { readonly origin: string; readonly basePath: string }): string {
  const { host } = new URL(origin);
  return `${host}${basePath}`.toLowerCase().replaceAll(/[^a-z0-9.-]/g, "_");
}
