/**
 * Caches in a directory of this computer:
 *
 *     <directory>/<GitLab>/project/<id>/<realm>/<SHA-256 of the key>   one file each (cache-file.ts)
 *     <directory>/work/<process>-<number>                              what is not whole yet
 *
 * A file gets its name when it is whole and on its disk, so that death at any instruction leaves nothing but work of a process that is gone,
 * which the next start removes. There is nothing else to keep in step: what is here is what the directory has. Another process may
 * remove files at any time (`firerunner cache prune`); one that is being read stays good.
 */
import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, mkdir, open, readdir, rename, rm, stat, utimes } from "node:fs/promises";
import { dirname, join } from "node:path";
import { addAbortSignal, Readable } from "node:stream";
import pLimit from "p-limit";
import type { Clock } from "../base/clock.ts";
import { freeBytesOf } from "../base/disk-ledger.ts";
import { processMark, syncPath } from "../base/durable-file.ts";
import { systemCode } from "../base/errors.ts";
import { createMutex } from "../base/keyed-mutex.ts";
import { makeDirectory } from "../base/trusted-file.ts";
import { formatBytes, MIB_BYTES, SECOND_MS } from "../base/units.ts";
import { type FileHeader, HEADER_BYTES, readHeader, renderHeader } from "./cache-file.ts";
import { CacheError } from "./errors.ts";
import { gather } from "./gather.ts";
import type { CacheId } from "./rights.ts";
import { createRoom, type KeptFile, type Reservation, type Room } from "./room.ts";
import {
  type ByteRange,
  type CacheEntry,
  type CacheFilter,
  type CacheObject,
  type CacheStorage,
  idAt,
  type NewCache,
  placeOf,
} from "./storage.ts";

/** What is read or written at one time. */
const PIECE_BYTES = 256 * 1024;
/** So much may wait for the disk before it is told to begin. */
const SYNCED_BYTES = 16 * MIB_BYTES;
/** Files whose heads are read side by side. */
const AT_ONCE = 16;

export interface LocalStorageOptions {
  readonly directory: string;
  /** Which GitLab's (`siteOf`). */
  readonly site: string;
  readonly sizeBytes: number;
  readonly projectSizeBytes: number;
  readonly minFreeBytes: number;
  readonly clock: Clock;
  /** What the directory's file system has left for us; by default it is asked. */
  readonly freeBytes?: () => Promise<number>;
}

/** Makes the directory where it is not there, and cleans up behind processes that died. Throws CacheError `cache_directory`. */
export async function openLocalStorage(options: LocalStorageOptions): Promise<LocalStorage> {
  const { directory, site } = options;
  await prepare(directory, join(directory, "work"));
  const room = createRoom(options);
  for (const file of await filesBelow(join(directory, site))) room.put(file);
  return new LocalStorage(options, room, (await processMark(process.pid)) ?? `${process.pid}-0`);
}

export class LocalStorage implements CacheStorage {
  readonly #root: string;
  readonly #work: string;
  readonly #room: Room;
  readonly #clock: Clock;
  readonly #freeBytes: () => Promise<number>;
  /** Of this process. */
  readonly #mark: string;
  /** One after the other decides who has to go. */
  readonly #deciding = createMutex();
  /** One after the other is written out: each takes one of the few threads that all files share. */
  readonly #syncing = createMutex();
  #count = 0;

  constructor({ directory, site, clock, freeBytes }: LocalStorageOptions, room: Room, mark: string) {
    this.#root = join(directory, site);
    this.#work = join(directory, "work");
    this.#room = room;
    this.#clock = clock;
    this.#freeBytes = freeBytes ?? (() => freeBytesOf(directory));
    this.#mark = mark;
  }

  async find(id: CacheId): Promise<CacheObject | undefined> {
    const found = await this.#open(id);
    await found?.handle.close();
    return found && { id, ...found.header };
  }

  async read({ id, etag }: CacheObject, { first, last }: ByteRange): Promise<Readable | undefined> {
    const found = await this.#open(id);
    if (found === undefined) return undefined;
    const { handle, header } = found;
    // Another may have been put in its place meanwhile: the range is not its own.
    if (header.etag !== etag || last < first) {
      await handle.close();
      return header.etag === etag ? Readable.from([]) : undefined;
    }
    const now = this.#clock.now();
    this.#room.touch(id, now);
    // When it was last used is the time of its file, which nothing else changes.
    await handle.utimes(seconds(now), seconds(now)).catch(() => {});
    const [start, end] = [HEADER_BYTES + first, HEADER_BYTES + last];
    return handle.createReadStream({ start, end, highWaterMark: PIECE_BYTES });
  }

  async store(id: CacheId, cache: NewCache, signal: AbortSignal): Promise<void> {
    const reservation = await this.#makeRoom(id, HEADER_BYTES + cache.bytes);
    this.#count += 1;
    const path = join(this.#work, `${this.#mark}-${this.#count}`);
    try {
      const now = this.#clock.now();
      const etag = `"${randomBytes(16).toString("hex")}"`;
      await this.#write(path, { key: cache.key, bytes: cache.bytes, storedAt: now, etag }, cache, signal);
      await utimes(path, seconds(now), seconds(now));
      await this.#putInPlace(path, { id, bytes: HEADER_BYTES + cache.bytes, usedAt: now });
    } catch (error) {
      await rm(path, { force: true });
      throw systemCode(error) === "ENOSPC" ? fullError("no space", cache.bytes, this.#work, error) : error;
    } finally {
      reservation.end();
    }
  }

  async list({ projectId, unusedSince }: CacheFilter): Promise<CacheEntry[]> {
    const wanted = this.#room
      .files()
      .filter(({ id }) => projectId === undefined || id.projectId === projectId)
      .filter(({ usedAt }) => unusedSince === undefined || usedAt < unusedSince);
    const limit = pLimit(AT_ONCE);
    const entries = wanted.map(({ id, usedAt }) =>
      limit(async () => {
        const object = await this.find(id);
        return object ? [{ ...object, usedAt }] : [];
      }),
    );
    return (await Promise.all(entries)).flat();
  }

  async remove({ id }: Pick<CacheEntry, "id">): Promise<void> {
    await rm(this.#pathOf(id), { force: true });
    this.#room.drop(id);
  }

  /** Removes what was not used for longest until so many bytes are free again, as far as there is any. Returns how many are. */
  async free(bytes: number): Promise<number> {
    return await this.#deciding(async () => {
      let freed = 0;
      for (const file of this.#room.files().toReversed()) {
        if (freed >= bytes) break;
        await this.remove(file);
        freed += file.bytes;
      }
      return freed;
    });
  }

  /** What all of it takes up. */
  usedBytes(): number {
    return this.#room.usedBytes();
  }

  async close(): Promise<void> {}

  #pathOf(id: CacheId): string {
    return join(this.#root, placeOf(id));
  }

  /** Undefined for what is not there, or is no whole file of a cache: that is removed. */
  async #open(id: CacheId): Promise<{ handle: FileHandle; header: FileHeader } | undefined> {
    const known = this.#room.get(id);
    const handle = await open(this.#pathOf(id), constants.O_RDONLY | constants.O_NOFOLLOW).catch(ifThere);
    const header = await (handle && readHeader(handle).catch(() => undefined));
    if (handle && header) return { handle, header };
    await handle?.close();
    // Unless another has been put in its place since.
    if (known !== undefined && this.#room.get(id) === known) {
      this.#room.drop(id);
      if (handle) await rm(this.#pathOf(id), { force: true });
    }
    return undefined;
  }

  async #makeRoom({ projectId }: CacheId, bytes: number): Promise<Reservation> {
    return await this.#deciding(async () => {
      for (;;) {
        const verdict = this.#room.judge(projectId, bytes, await this.#freeBytes());
        if (verdict.kind === "fits") return this.#room.reserve(projectId, bytes);
        if (verdict.kind === "full") throw fullError(verdict.why, bytes, this.#work);
        await this.remove(verdict.file);
      }
    });
  }

  async #write(path: string, header: FileHeader, { body, bytes }: NewCache, signal: AbortSignal) {
    const handle = await open(path, "wx", 0o600);
    const sync = () => this.#syncing(() => handle.datasync());
    try {
      await handle.write(renderHeader(header), 0, HEADER_BYTES, 0);
      await writeExactly(handle, addAbortSignal(signal, body), bytes, sync);
      await this.#syncing(() => handle.sync());
    } finally {
      await handle.close();
    }
  }

  async #putInPlace(from: string, file: KeptFile): Promise<void> {
    const path = this.#pathOf(file.id);
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await rename(from, path);
    this.#room.put(file);
    await syncPath(dirname(path));
  }
}

/** File systems keep times in seconds. */
function seconds(ms: number): number {
  return ms / SECOND_MS;
}

function ifThere(error: unknown): undefined {
  if (["ENOENT", "ENOTDIR", "ELOOP"].includes(systemCode(error) ?? "")) return undefined;
  throw error;
}

function fullError(why: "too large" | "no space", bytes: number, work: string, cause?: unknown): CacheError {
  const size = formatBytes(bytes);
  if (why === "too large")
    return new CacheError("cache_too_large", `a cache of ${size} is larger than all caches may be together`, {
      hint: "raise cache.projectSize and cache.size, or keep less in the cache",
    });
  return new CacheError("cache_no_space", `there is no room for a cache of ${size} in ${dirname(work)}`, {
    cause,
    hint: "make room on its disk, or lower cache.minFree",
    retryable: true,
  });
}

/** All that comes, behind the header, and on its way to the disk while more comes. Throws CacheError when it is more or less than was said. */
async function writeExactly(
  handle: FileHandle,
  body: Readable,
  bytes: number,
  sync: () => Promise<void>,
): Promise<void> {
  let [at, syncedAt] = [0, 0];
  let syncing: Promise<void> | undefined;
  const startSync = () => {
    syncedAt = at;
    // What fails here fails at the end as well.
    syncing = sync()
      .catch(() => {})
      .finally(() => {
        syncing = undefined;
      });
  };
  try {
    await gather(body, PIECE_BYTES, async (piece) => {
      const length = piece.reduce((sum, { byteLength }) => sum + byteLength, 0);
      if (at + length > bytes) throw cutError("longer");
      await writeAll(handle, piece, HEADER_BYTES + at);
      at += length;
      if (syncing === undefined && at - syncedAt >= SYNCED_BYTES) startSync();
    });
  } finally {
    await syncing;
  }
  if (at < bytes) throw cutError("shorter");
}

async function writeAll(handle: FileHandle, piece: readonly Buffer[], position: number): Promise<void> {
  const { bytesWritten } = await handle.writev(piece, position);
  const length = piece.reduce((sum, { byteLength }) => sum + byteLength, 0);
  // A disk that is almost full takes a part.
  if (bytesWritten === 0 && length > 0)
    throw Object.assign(new Error("nothing was written"), { code: "ENOSPC" });
  if (bytesWritten < length)
    await writeAll(handle, [Buffer.concat(piece).subarray(bytesWritten)], position + bytesWritten);
}

function cutError(how: "longer" | "shorter"): CacheError {
  return new CacheError("cache_cut", `the body of the cache is ${how} than was said`);
}

async function prepare(directory: string, work: string): Promise<void> {
  try {
    await makeDirectory(work, 0o700);
    for (const name of await readdir(work)) {
      const [pid = "", start = ""] = name.split("-");
      const isAlive = (await processMark(Number(pid))) === `${pid}-${start}`;
      if (!isAlive) await rm(join(work, name), { force: true, recursive: true });
    }
  } catch (cause) {
    throw new CacheError("cache_directory", `the directory of caches, ${directory}, cannot be used`, {
      cause,
      hint: "make it writable for the user FireRunner runs as, or name another in cache.directory",
    });
  }
}

async function filesBelow(root: string) {
  const names = await readdir(root, { recursive: true }).catch(ifThere);
  const limit = pLimit(AT_ONCE);
  const found = (names ?? []).map((name) =>
    limit(async () => {
      const id = idAt(name);
      const file = id && (await stat(join(root, name)).catch(ifThere));
      return id && file?.isFile() ? [{ id, bytes: file.size, usedAt: file.mtimeMs }] : [];
    }),
  );
  return (await Promise.all(found)).flat();
}
