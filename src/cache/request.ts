/** What a request for a cache names, by its path. `BUCKET/project/7/KEY`, as the runner makes it for a server of its kind S3. */
import type { CacheName } from "./rights.ts";

/** The bucket by which machines name the caches. No group of GitLab's needs this name. */
export const CACHE_BUCKET = "firerunner-cache";

/** GitLab's keys have up to 255 characters, each of which may be nine in a path. */
const LONGEST_PATH = 4_096;
const LONGEST_KEY_BYTES = 2_048;

const cachePath = new RegExp(`^/${CACHE_BUCKET}/project/([1-9]\\d{0,14})/(.+)$`);
/** As runners from 19 on name it: with its first two digits as a folder, or without. */
const hashedName = /^(?:([0-9a-f]{2})\/)?([0-9a-f]{64})$/;

export interface CacheRequest {
  readonly projectId: number;
  readonly name: CacheName;
}

/** True for a path below the bucket, whatever follows. */
export function isCachePath(path: string): boolean {
  return path.startsWith(`/${CACHE_BUCKET}/`);
}

/** Undefined for what names no cache. `path` is as it was sent, without the query. */
export function cacheRequestOf(path: string): CacheRequest | undefined {
  if (path.length > LONGEST_PATH) return undefined;
  const match = cachePath.exec(path);
  const rest = match?.[2] ?? "";
  const [, folder, digest] = hashedName.exec(rest) ?? [];
  const projectId = Number(match?.[1]);
  if (match && digest !== undefined && (folder === undefined || digest.startsWith(folder)))
    return { projectId, name: { digest } };
  const key = match ? decoded(rest) : undefined;
  return key === undefined ? undefined : { projectId, name: { key } };
}

/** Undefined for what is no text, or holds what no line of a list should. */
export function decoded(text: string): string | undefined {
  let key: string;
  try {
    key = decodeURIComponent(text);
  } catch {
    return undefined;
  }
  return isKey(key) ? key : undefined;
}

/** Whether this can be the key of a cache. */
export function isKey(key: string): boolean {
  return key !== "" && Buffer.byteLength(key) <= LONGEST_KEY_BYTES && !/\p{Cc}/u.test(key);
}

const codes: Readonly<Record<number, string>> = {
  403: "AccessDenied",
  404: "NoSuchKey",
  411: "MissingContentLength",
  413: "EntityTooLarge",
  416: "InvalidRange",
  503: "SlowDown",
  507: "InsufficientStorage",
};

/** An error as S3 writes it: the runner puts its words into the job's log. */
export function s3Error(status: number, message: string): string {
  const escaped = message.replaceAll(/[<>&]/g, (letter) => `&#${letter.charCodeAt(0)};`);
  const code = codes[status] ?? (status < 500 ? "InvalidRequest" : "InternalError");
  return `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>${escaped}</Message></Error>\n`;
}
