import { mkdtemp, rmdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "../../src/base/process.ts";

/** A volume of its own of this size, which runs full as a disk does. Only root may mount one. Unmounted when the scope ends. */
export async function smallVolume(sizeMib: number): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(tmpdir(), "fr-volume-"));
  await run("mount", ["-t", "tmpfs", "-o", `size=${sizeMib}m,mode=0755`, "firerunner-test", path]);
  return {
    path,
    async [Symbol.asyncDispose]() {
      await run("umount", ["--lazy", path]);
      await rmdir(path);
    },
  };
}
