/** Images of jobs as a cache that gives way to machines. It is opened by whoever needs an image first, and by this only where it was before. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { DiskCache } from "../base/disk-ledger.ts";
import type { ContainerError } from "./errors.ts";
import type { JobImages } from "./job-images.ts";
import { RECORDS_FILE } from "./keep/records.ts";

export interface ImageDiskCache extends DiskCache {
  /** Why no image could be fetched now; undefined while there is room, and before anybody has needed an image. */
  roomProblem(): Promise<ContainerError | undefined>;
}

export function imageDiskCache(
  directory: string,
  open: () => Promise<Pick<JobImages, "keeper">>,
): ImageDiskCache {
  const keeper = async () => (existsSync(join(directory, RECORDS_FILE)) ? (await open()).keeper : undefined);
  return {
    name: "images of jobs",
    directory,
    async use() {
      const kept = await keeper();
      return { usedBytes: kept?.usedBytes() ?? 0, evictableBytes: kept?.evictableBytes() ?? 0 };
    },
    roomProblem: async () => await (await keeper())?.roomProblem(),
    evict: async (bytes) => (await keeper())?.evict(bytes) ?? 0,
  };
}
