import { open, rm, statfs } from "node:fs/promises";
import { dirname } from "node:path";
import { systemCode } from "../../base/errors.ts";
import { ProcessError, run } from "../../base/process.ts";
import { formatMib, MIB_BYTES } from "../../base/units.ts";
import { VmError } from "../errors.ts";

export interface ScratchDisk {
  readonly path: string;
  readonly sizeMib: number;
  /** Full path of mkfs.ext4. */
  readonly mkfs: string;
  /** The disk is refused while less than this is free: a sparse file must have room to grow. */
  readonly minFreeMib: number;
}

/**
 * Makes an empty ext4 of the given size in a sparse file, labelled `scratch`. Without a journal and without room to be
 * enlarged: nobody mounts it a second time, and both cost real blocks and most of the time that making it takes. Replaces a
 * file of an earlier try. Throws `vm_disk_full` (retryable).
 */
export async function makeScratchDisk(disk: ScratchDisk, signal: AbortSignal): Promise<void> {
  await checkFree(disk);
  await rm(disk.path, { force: true });
  try {
    const file = await open(disk.path, "wx", 0o600);
    await file.truncate(disk.sizeMib * MIB_BYTES).finally(() => file.close());
    const features = ["-O", "^has_journal,^resize_inode", "-E", "lazy_itable_init=1,nodiscard", "-m", "0"];
    await run(disk.mkfs, ["-q", "-F", "-L", "scratch", ...features, disk.path], { signal });
  } catch (error) {
    signal.throwIfAborted();
    if (isFull(error)) throw diskFull(disk, error);
    throw new VmError("vm_create_failed", `making the scratch disk ${disk.path} failed`, { cause: error });
  }
}

async function checkFree(disk: ScratchDisk): Promise<void> {
  const { bavail, bsize } = await statfs(dirname(disk.path));
  const freeMib = (bavail * bsize) / MIB_BYTES;
  if (freeMib < Math.min(disk.minFreeMib, disk.sizeMib)) throw diskFull(disk, undefined, freeMib);
}

function isFull(error: unknown): boolean {
  if (error instanceof ProcessError) return /no space left|quota exceeded/i.test(error.stderrTail);
  return ["ENOSPC", "EDQUOT"].includes(systemCode(error) ?? "");
}

function diskFull(disk: ScratchDisk, cause: unknown, freeMib?: number): VmError {
  const free = freeMib === undefined ? "" : `: ${formatMib(freeMib)} are free`;
  return new VmError("vm_disk_full", `no room for a scratch disk in ${dirname(disk.path)}${free}`, {
    cause,
    hint: "free some disk space there, or set vm.minFreeDisk lower",
    retryable: true,
  });
}
