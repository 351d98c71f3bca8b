import { mkdir, rename, rm, stat } from "node:fs/promises";
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
  const tree = `${finished}.tree`;
  await rm(tree, { recursive: true, force: true });
  await mkdir(directory, { recursive: true });
  for (const layer of image.layers) await run("unsquashfs", ["-q", "-n", "-f", "-d", tree, layer]);
  const unfinished = `${finished}.new`;
  await rm(unfinished, { force: true });
  await run("mkfs.ext4", ["-q", "-E", "lazy_itable_init=1", "-d", tree, unfinished, DISK_SIZE]);
  await rm(tree, { recursive: true });
  await rename(unfinished, finished);
  return finished;
}
