/**
 * Space that is kept for the store on the disk of the state directory: a file of a fixed size. When the disk is full it is removed, so
 * that the ends of jobs can be written and machines be taken away; it is made again when there is room.
 */

import { randomBytes } from "node:crypto";
import { open, rename, rm, stat, statfs } from "node:fs/promises";
import { dirname } from "node:path";
import type { Clock } from "../base/clock.ts";
import { MIB_BYTES } from "../base/units.ts";

const CHUNK_BYTES = MIB_BYTES;
/** As much has to be free, in parts of the reserve, before it is made: it must not be what fills the disk. */
const ROOM_FOR_IT = 4;
const RETRY_MS = 10_000;

export interface Reserve {
  /** Makes it where it is missing and there is room; looks no more often than every ten seconds. Never rejects. */
  keep(): Promise<void>;
  /** Gives its space to whoever needs it. False when there was none to give. Never rejects. */
  release(): Promise<boolean>;
}

/** Nothing is kept, as for a database elsewhere. */
export const noReserve: Reserve = { keep: async () => {}, release: async () => false };

export function createReserve(path: string, bytes: number, clock: Clock): Reserve {
  let isThere = false;
  let lookedAt = Number.NEGATIVE_INFINITY;
  let making: Promise<void> = Promise.resolve();

  async function make(): Promise<void> {
    const size = await stat(path).then(
      (file) => file.size,
      () => 0,
    );
    if (size < bytes) {
      const { bavail, bsize } = await statfs(dirname(path));
      if (bavail * bsize < ROOM_FOR_IT * bytes) return;
      await writeWhole(path, bytes);
    }
    isThere = true;
  }

  return {
    async keep() {
      if (isThere || clock.now() - lookedAt < RETRY_MS) return await making;
      lookedAt = clock.now();
      making = make().catch(async () => await rm(`${path}.new`, { force: true }).catch(() => {}));
      await making;
    },
    async release() {
      await making;
      isThere = false;
      lookedAt = clock.now();
      return await rm(path).then(
        () => true,
        () => false,
      );
    },
  };
}

/** Of bytes that no file system makes smaller, under its name only when it is whole. */
async function writeWhole(path: string, bytes: number): Promise<void> {
  const draft = `${path}.new`;
  const file = await open(draft, "w", 0o600);
  try {
    const chunk = randomBytes(CHUNK_BYTES);
    for (let written = 0; written < bytes; written += chunk.length)
      await file.writeFile(chunk.subarray(0, Math.min(chunk.length, bytes - written)));
    await file.datasync();
  } finally {
    await file.close();
  }
  await rename(draft, path);
}
