import { createReadStream } from "node:fs";
import { IMAGE_EPOCH_S } from "../base-layer.ts";
import { BLOCK_BYTES, padding, type TarKind, writeTarHeader } from "./tar.ts";

/** Where hosts of a fleet look for them in the kernel image. */
const KERNEL_PATH = "boot/vmlinux";
const INITRAMFS_PATH = "boot/initrd.img";

interface SourceFile {
  readonly path: string;
  readonly bytes: number;
}

/** The only layer of the kernel image, as a tar archive. */
export async function* kernelLayer(kernel: SourceFile, initramfs: SourceFile): AsyncGenerator<Buffer> {
  yield header("directory", "boot/", 0o755, 0);
  yield* file(KERNEL_PATH, kernel);
  yield* file(INITRAMFS_PATH, initramfs);
  yield Buffer.alloc(2 * BLOCK_BYTES);
}

async function* file(name: string, { path, bytes }: SourceFile): AsyncGenerator<Buffer> {
  yield header("file", name, 0o644, bytes);
  yield* createReadStream(path, { highWaterMark: 1 << 20 });
  yield padding(bytes);
}

function header(kind: TarKind, path: string, mode: number, bytes: number): Buffer {
  return writeTarHeader({ kind, path, mode, bytes, mtimeS: IMAGE_EPOCH_S });
}
