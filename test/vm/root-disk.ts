import { mkdir, mkdtemp, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { run } from "../../src/base/process.ts";
import type { BootImage } from "../../src/domain/images.ts";
import { testImageDirectory } from "../harness/image.ts";

const DISK_SIZE = "2G";

/**
 * An image's layers as the one writable disk that a machine on another host has: made once per image, to be copied. Root only, as
 * devices and owners are real.
 */
export async function rootDisk(image: BootImage): Promise<string> {
  const directory = join(testImageDirectory(), "..", "test-root-disks");
  const finished = join(directory, `${image.digest.replace(":", "-")}.ext4`);
  if ((await stat(finished).catch(() => undefined)) !== undefined) return finished;
  await mkdir(directory, { recursive: true });
  // Several test files may want it at once: each makes its own, and the last one stays.
  const work = await mkdtemp(join(directory, "unfinished-"));
  try {
    const tree = join(work, "tree");
    for (const layer of image.layers) await run("unsquashfs", ["-q", "-n", "-f", "-d", tree, layer]);
    const unfinished = join(work, "root.ext4");
    await run("mkfs.ext4", ["-q", "-E", "lazy_itable_init=1", "-d", tree, unfinished, DISK_SIZE]);
    await rename(unfinished, finished);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return finished;
}
