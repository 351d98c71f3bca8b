import { constants } from "node:fs";
import { access, stat } from "node:fs/promises";
import { dirname } from "node:path";
import type { BootImage } from "../../domain/images.ts";
import { VmError } from "../errors.ts";

/**
 * Throws `vm_image_broken` when a file of the image is missing, or cannot be read by those who will run it: this program's
 * user, or everybody when machines have users of their own.
 */
export async function checkImageAccess(image: BootImage, separateUsers: boolean): Promise<void> {
  for (const path of [image.kernel, image.initramfs, ...image.layers]) {
    await access(path, constants.R_OK).catch((cause: unknown) => {
      throw new VmError("vm_image_broken", `the image's file ${path} cannot be read`, {
        cause,
        hint: "build the image again: firerunner image build",
      });
    });
    if (separateUsers) await checkOpenToAll(path);
  }
}

async function checkOpenToAll(path: string): Promise<void> {
  await checkMode(path, path, 0o004, "o+r");
  for (let parent = dirname(path); parent !== dirname(parent); parent = dirname(parent))
    await checkMode(path, parent, 0o001, "o+x");
}

async function checkMode(file: string, path: string, bits: number, change: string): Promise<void> {
  if (((await stat(path)).mode & bits) === bits) return;
  const message = `the image's file ${file} is closed to the unprivileged users that machines run as: by ${path}`;
  throw new VmError("vm_image_broken", message, {
    hint: `chmod ${change} ${path}, or keep images in a directory that is open to all`,
  });
}
