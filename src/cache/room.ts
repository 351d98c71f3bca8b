/** How much room caches have: what is there, what is on its way, and who has to go for what is to come. */
import type { CacheId } from "./rights.ts";

interface RoomLimits {
  readonly sizeBytes: number;
  readonly projectSizeBytes: number;
  readonly minFreeBytes: number;
}

export interface KeptFile {
  readonly id: CacheId;
  readonly bytes: number;
  /** When it was stored or last fetched (epoch ms). */
  readonly usedAt: number;
}

/** `evict`: this one has to go first. `full`: nobody can go, and there is still no room. */
type Verdict =
  | { readonly kind: "fits" }
  | { readonly kind: "evict"; readonly file: KeptFile }
  | { readonly kind: "full"; readonly why: "too large" | "no space" };

/** Room that somebody writes into. */
export interface Reservation {
  /** What was reserved is free again. */
  end(): void;
}

/** The index of all files, in memory. */
export interface Room {
  /** Whether so many bytes more of a project have room. `freeBytes`: what its file system has left. */
  judge(projectId: number, bytes: number, freeBytes: number): Verdict;
  reserve(projectId: number, bytes: number): Reservation;
  put(file: KeptFile): void;
  drop(id: CacheId): void;
  get(id: CacheId): KeptFile | undefined;
  touch(id: CacheId, at: number): void;
  /** The last used first. */
  files(): KeptFile[];
  /** Of all files. */
  usedBytes(): number;
}

export function createRoom({ sizeBytes, projectSizeBytes, minFreeBytes }: RoomLimits): Room {
  const files = new Map<string, KeptFile>();
  const used = new Map<number, number>();
  const reserved = new Map<number, number>();
  let [usedInAll, reservedInAll] = [0, 0];

  function count(projectId: number, bytes: number): void {
    used.set(projectId, (used.get(projectId) ?? 0) + bytes);
    usedInAll += bytes;
  }

  function drop(id: CacheId): void {
    const file = files.get(nameOf(id));
    if (file === undefined) return;
    files.delete(nameOf(id));
    count(id.projectId, -file.bytes);
  }

  function leastUsed(projectId?: number): KeptFile | undefined {
    let least: KeptFile | undefined;
    for (const file of files.values()) {
      if (projectId !== undefined && file.id.projectId !== projectId) continue;
      if (least === undefined || file.usedAt < least.usedAt) least = file;
    }
    return least;
  }

  function evictOr(file: KeptFile | undefined): Verdict {
    return file ? { kind: "evict", file } : { kind: "full", why: "no space" };
  }

  return {
    judge(projectId, bytes, freeBytes) {
      if (bytes > projectSizeBytes || bytes > sizeBytes) return { kind: "full", why: "too large" };
      const ofProject = (used.get(projectId) ?? 0) + (reserved.get(projectId) ?? 0);
      if (ofProject + bytes > projectSizeBytes) return evictOr(leastUsed(projectId));
      if (usedInAll + reservedInAll + bytes > sizeBytes) return evictOr(leastUsed());
      if (freeBytes - reservedInAll - bytes < minFreeBytes) return evictOr(leastUsed());
      return { kind: "fits" };
    },
    reserve(projectId, bytes) {
      const change = (by: number) => {
        reserved.set(projectId, (reserved.get(projectId) ?? 0) + by);
        reservedInAll += by;
      };
      change(bytes);
      let isOver = false;
      return {
        end() {
          if (!isOver) change(-bytes);
          isOver = true;
        },
      };
    },
    put(file) {
      drop(file.id);
      files.set(nameOf(file.id), file);
      count(file.id.projectId, file.bytes);
    },
    drop,
    get: (id) => files.get(nameOf(id)),
    touch(id, at) {
      const file = files.get(nameOf(id));
      if (file) files.set(nameOf(id), { ...file, usedAt: Math.max(at, file.usedAt) });
    },
    files: () => [...files.values()].toSorted((a, b) => b.usedAt - a.usedAt),
    usedBytes: () => usedInAll,
  };
}

function nameOf({ projectId, realm, digest }: CacheId): string {
  return `${projectId}/${realm}/${digest}`;
}
