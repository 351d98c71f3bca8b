/**
 * Blobs on their way here: each comes once from a registry, however many wait for it, whether they want it whole (`fetch`) or its bytes as they
 * come (`follow`). Another registry's blob of the same digest is another one until it is here: nobody waits for a registry that others chose.
 */
import { type FileHandle, open } from "node:fs/promises";
import pLimit from "p-limit";
import { systemCode } from "../../base/errors.ts";
import { createKeyedMutex } from "../../base/keyed-mutex.ts";
import { createSharedWork, runOrRepeat } from "../../base/shared-work.ts";
import type { Keeper } from "../keep/keeper.ts";
import type { ImageReference } from "../reference.ts";
import { fetchBlob } from "./blob.ts";
import type { Blob } from "./documents.ts";
import type { Repository } from "./repository.ts";

interface WantedBlob {
  readonly repository: Repository;
  readonly reference: ImageReference;
  readonly blob: Blob;
  readonly signal: AbortSignal;
  /** How much of it is here; also of what somebody else has begun. */
  readonly onBytes?: (bytes: number) => void;
  /** Takes no place among the images that jobs wait for. */
  readonly isAside?: boolean;
}

export interface BlobFetches {
  /** Answers how much of it came over the network for this call. Throws ContainerError or RegistryError. */
  fetch(wanted: WantedBlob): Promise<number>;
  /**
   * The blob's bytes from `from` on, while it comes. Resolves when the first ones are there, and throws as `fetch` does until then; later the
   * stream breaks off. That it is what its digest says is known only at its end. To be read to the end, or returned.
   */
  follow(wanted: WantedBlob, from: number): Promise<AsyncIterable<Buffer>>;
  /** What is still missing of all blobs that are on their way: their room is not free. */
  comingBytes(): number;
}

/** Blobs of all images that jobs wait for together. */
const FETCHES = 4;
const READ_BYTES = 256 * 1024;

/** What goes on, by registry and digest. */
function createGoing(keeper: Keeper) {
  const fetching = createSharedWork<number>();
  const fetches = pLimit(FETCHES);
  const growing = createKeyedMutex();
  const arrivals = new Map<string, Arrival>();

  /** `use` while it is known how much of the blob is here. */
  async function withArrival<T>(wanted: WantedBlob, use: (arrival: Arrival) => Promise<T>): Promise<T> {
    const key = keyOf(wanted);
    const arrival = arrivals.get(key) ?? new Arrival(wanted.blob.bytes);
    arrivals.set(key, arrival);
    arrival.users += 1;
    try {
      return await use(arrival);
    } finally {
      arrival.users -= 1;
      if (arrival.users === 0) arrivals.delete(key);
    }
  }

  async function fetchInto(wanted: WantedBlob, arrival: Arrival): Promise<number> {
    const { repository, reference, blob, signal, isAside = false } = wanted;
    // What another one fetches comes with that one's login and patience.
    return await runOrRepeat(fetching, keyOf(wanted), signal, (stop) => {
      const work = async () => {
        stop.throwIfAborted();
        // The last one who waited may have left when only its name was missing.
        if (keeper.hasBlob(blob.digest, reference.registry)) return 0;
        const part = await keeper.partPath(reference.registry, blob.digest);
        arrival.part = part;
        const onBytes = (bytes: number) => arrival.advance(bytes);
        try {
          const fetched = await fetchBlob({ repository, reference, blob, part, signal, onBytes });
          await keeper.addBlob(blob.digest, reference.registry, part);
          return fetched;
        } finally {
          keeper.leavePart(part);
        }
      };
      const alone = () => growing.run(keyOf(wanted), work);
      return isAside ? alone() : fetches(alone);
    });
  }

  /** Of all that is coming, what is not here yet. */
  function comingBytes(): number {
    return [...arrivals.values()].reduce((sum, { total, bytes }) => sum + Math.max(0, total - bytes), 0);
  }

  return { withArrival, fetchInto, comingBytes };
}

export function createBlobFetches(keeper: Keeper): BlobFetches {
  const { withArrival, fetchInto, comingBytes } = createGoing(keeper);

  async function fetch(wanted: WantedBlob): Promise<number> {
    return await withArrival(wanted, async (arrival) => {
      const { onBytes } = wanted;
      if (onBytes === undefined) return await fetchInto(wanted, arrival);
      const stopHearing = arrival.hear(() => onBytes(arrival.bytes));
      return await fetchInto(wanted, arrival).finally(stopHearing);
    });
  }

  /** Begins to fetch; the arrival is kept until that has ended. */
  function begin(wanted: WantedBlob): Promise<Following> {
    const begun = Promise.withResolvers<Following>();
    void withArrival(wanted, async (arrival) => {
      const following: Following = { arrival, ended: undefined };
      begun.resolve(following);
      following.ended = await fetchInto(wanted, arrival).then(
        () => ({}),
        (error: unknown) => ({ error }),
      );
      arrival.tell();
    });
    return begun.promise;
  }

  async function openFile(wanted: WantedBlob, following: Following): Promise<FileHandle> {
    const { part } = following.arrival;
    const growing = part === undefined ? undefined : await open(part, "r").catch(noneIfGone);
    if (growing !== undefined) return growing;
    while (following.ended === undefined) await following.arrival.changed();
    requireGood(following);
    return await open(keeper.pathOf("blob", wanted.blob.digest), "r");
  }

  return {
    fetch,
    comingBytes,
    async follow(wanted, from) {
      const following = await begin(wanted);
      const { arrival } = following;
      while (following.ended === undefined && arrival.bytes === 0) await arrival.changed();
      requireGood(following);
      const file = await openFile(wanted, following);
      return readArriving(file, following, { from, total: wanted.blob.bytes });
    },
  };
}

interface Following {
  readonly arrival: Arrival;
  ended: { readonly error?: unknown } | undefined;
}

function requireGood({ ended }: Following): void {
  if (ended !== undefined && "error" in ended) throw ended.error;
}

/** What goes on beyond what was read cannot be told from what was there before it began anew: then it breaks off. */
async function* readArriving(
  file: FileHandle,
  following: Following,
  { from, total }: { readonly from: number; readonly total: number },
): AsyncGenerator<Buffer> {
  const { arrival } = following;
  const { restarts } = arrival;
  try {
    for (let at = from; at < total; ) {
      requireGood(following);
      const end = following.ended === undefined ? Math.min(total, arrival.bytes) : total;
      if (arrival.restarts !== restarts) throw new Error("it began anew");
      if (at >= end) {
        await arrival.changed();
        continue;
      }
      const piece = Buffer.allocUnsafe(Math.min(READ_BYTES, end - at));
      const { bytesRead } = await file.read(piece, 0, piece.length, at);
      if (bytesRead === 0) throw new Error("it is shorter than it should be");
      at += bytesRead;
      yield piece.subarray(0, bytesRead);
    }
  } finally {
    await file.close();
  }
}

/** How much of a blob is here. */
class Arrival {
  bytes = 0;
  /** How often it had to begin anew. */
  restarts = 0;
  users = 0;
  /** Where it grows. */
  part: string | undefined;
  readonly total: number;
  readonly #listeners = new Set<() => void>();

  constructor(total: number) {
    this.total = total;
  }

  advance(bytes: number): void {
    if (bytes < this.bytes) this.restarts += 1;
    this.bytes = bytes;
    this.tell();
  }

  hear(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  tell(): void {
    for (const listener of [...this.#listeners]) listener();
  }

  async changed(): Promise<void> {
    await new Promise<void>((resolve) => {
      const stop = this.hear(() => {
        stop();
        resolve();
      });
    });
  }
}

function keyOf({ reference, blob }: WantedBlob): string {
  return `${reference.registry} ${blob.digest}`;
}

function noneIfGone(error: unknown): undefined {
  if (systemCode(error) !== "ENOENT") throw error;
  return undefined;
}
