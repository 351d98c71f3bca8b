/**
 * Caches on an S3-compatible server, so that all FireRunners with the same bucket share them. They have the names that files have in a directory
 * (`PREFIX/GITLAB/project/ID/REALM/SHA256`), with the key beside them as metadata. Size and age are the server's business (its rules of
 * expiry); an upload is there whole or not at all, which is the protocol's promise.
 */
import type { IncomingHttpHeaders } from "node:http";
import { PassThrough, Readable } from "node:stream";
import pLimit from "p-limit";
import type { Dispatcher } from "undici";
import { readWhole } from "../base/read-bounded.ts";
import { MIB_BYTES } from "../base/units.ts";
import { CacheError } from "./errors.ts";
import { decoded } from "./request.ts";
import type { CacheId } from "./rights.ts";
import { createS3Client, type S3Client, type S3ClientOptions } from "./s3-client.ts";
import {
  type CacheEntry,
  type CacheFilter,
  type CacheObject,
  type CacheStorage,
  idAt,
  placeOf,
} from "./storage.ts";

/** What the runner itself writes there, and so what people see in the server's own interface. */
const KEY_HEADER = "x-amz-meta-cachekey";
/** Of one page, which names a thousand objects. */
const LONGEST_PAGE_BYTES = 4 * MIB_BYTES;
/** Nobody looks at more. */
const MOST_PAGES = 100;
const AT_ONCE = 8;

interface S3StorageOptions extends S3ClientOptions {
  readonly prefix: string;
  /** Which GitLab's (`siteOf`). */
  readonly site: string;
}

export function openS3Storage(options: S3StorageOptions): CacheStorage {
  const client = createS3Client(options);
  const root = `${options.prefix}/${options.site}`;
  const nameOf = (id: CacheId) => `${root}/${placeOf(id)}`;

  async function find(id: CacheId, signal: AbortSignal): Promise<CacheObject | undefined> {
    const answer = await client.send({
      method: "HEAD",
      name: nameOf(id),
      signal,
      doing: "looking for a cache",
    });
    return answer && objectOf(id, answer.headers);
  }

  return {
    find,
    async read({ id, etag, bytes }, { first, last }, signal) {
      if (bytes === 0) return Readable.from([]);
      const headers = { range: `bytes=${first}-${last}`, "if-match": etag };
      const answer = await client
        .send({ method: "GET", name: nameOf(id), headers, signal, doing: "reading a cache" })
        .catch(goneIfChanged);
      return answer && wholeOf(answer, last - first + 1);
    },
    async store(id, { key, bytes, body }, signal) {
      const headers = {
        "content-type": "application/octet-stream",
        ...(key === undefined ? {} : { [KEY_HEADER]: encodeURIComponent(key) }),
      };
      const stream = valved(body);
      const sent = { name: nameOf(id), headers, body: { bytes, stream }, signal };
      try {
        const answer = await client.send({ method: "PUT", ...sent, doing: "storing a cache" });
        answer?.body.resume();
      } finally {
        body.unpipe(stream);
        stream.destroy();
      }
    },
    async list({ projectId, unusedSince }, signal) {
      const entries = await listed(client, root, { projectId }, signal);
      const wanted = entries.filter(({ storedAt }) => unusedSince === undefined || storedAt < unusedSince);
      const limit = pLimit(AT_ONCE);
      const found = wanted.map((entry) =>
        limit(async () => ({ ...entry, key: (await find(entry.id, signal))?.key })),
      );
      return await Promise.all(found);
    },
    async remove({ id }, signal) {
      const answer = await client.send({
        method: "DELETE",
        name: nameOf(id),
        signal,
        doing: "removing a cache",
      });
      answer?.body.resume();
    },
    close: client.close,
  };
}

/** The HTTP client destroys what it was given when an answer comes early, and that must not take its source along. */
function valved(body: Readable): PassThrough {
  const valve = new PassThrough();
  valve.on("error", () => {});
  body.once("error", (error) => valve.destroy(error));
  body.once("close", () => body.readableEnded || valve.destroy(new Error("the body of the cache was cut")));
  return body.pipe(valve);
}

/** Another was stored in its place since it was found. */
function goneIfChanged(error: unknown): undefined {
  if (error instanceof CacheError && error.message.includes("answered 412")) return undefined;
  throw error;
}

/** A server that sends another length than it was asked for would have the runner wait, or take a part for the whole. */
function wholeOf({ headers, body }: Dispatcher.ResponseData, bytes: number): Readable {
  if (headers["content-length"] === String(bytes)) return body;
  body.destroy();
  throw new CacheError(
    "cache_server_unavailable",
    "the S3 server sends another part of a cache than it was asked for",
  );
}

function objectOf(id: CacheId, headers: IncomingHttpHeaders): CacheObject {
  const key = [headers[KEY_HEADER] ?? []].flat()[0];
  return {
    id,
    key: key === undefined ? undefined : decoded(key),
    bytes: Number(headers["content-length"] ?? 0),
    storedAt: Date.parse(headers["last-modified"] ?? "") || 0,
    etag: headers.etag ?? '"0"',
  };
}

type Listed = Omit<CacheEntry, "key"> & { readonly key: undefined };

async function listed(
  client: S3Client,
  root: string,
  { projectId }: Pick<CacheFilter, "projectId">,
  signal: AbortSignal,
): Promise<Listed[]> {
  const prefix = `${root}/project/${projectId === undefined ? "" : `${projectId}/`}`;
  const all: Listed[] = [];
  let next: string | undefined;
  for (let page = 0; page < MOST_PAGES; page++) {
    const query = { "list-type": "2", prefix, ...(next === undefined ? {} : { "continuation-token": next }) };
    const answer = await client.send({ method: "GET", query, signal, doing: "listing caches" });
    const xml = answer ? (await readWhole(answer.body, LONGEST_PAGE_BYTES)).toString("utf8") : "";
    all.push(...entriesIn(xml, root));
    next = textIn(xml, "NextContinuationToken");
    if (next === undefined) break;
  }
  return all.toSorted((a, b) => b.storedAt - a.storedAt);
}

/** The caches of one page. Names that are not ours are passed over. */
function entriesIn(xml: string, root: string): Listed[] {
  return [...xml.matchAll(/<Contents>([\s\S]*?)<\/Contents>/g)].flatMap(([, part = ""]): Listed[] => {
    const name = textIn(part, "Key") ?? "";
    const id = name.startsWith(`${root}/`) ? idAt(name.slice(root.length + 1)) : undefined;
    if (id === undefined) return [];
    const storedAt = Date.parse(textIn(part, "LastModified") ?? "") || 0;
    const etag = textIn(part, "ETag") ?? '"0"';
    return [
      { id, key: undefined, bytes: Number(textIn(part, "Size") ?? 0), storedAt, etag, usedAt: undefined },
    ];
  });
}

const entities: Readonly<Record<string, string>> = {
  quot: '"',
  amp: "&",
  lt: "<",
  gt: ">",
  apos: "'",
  "#34": '"',
};

function textIn(xml: string, name: string): string | undefined {
  const text = new RegExp(`<${name}>([^<]*)</${name}>`).exec(xml)?.[1];
  return text?.replaceAll(/&(quot|amp|lt|gt|apos|#34);/g, (_, entity: string) => entities[entity] ?? "");
}
