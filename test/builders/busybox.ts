import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { composeDisk, usualLimits } from "../../src/containers/compose/compose.ts";
import { type TestImage, tarOf } from "./layer.ts";

/** A layer of busybox alone, without bash and git, as an archive. */
export async function busyboxLayer(applets: readonly string[]): Promise<Buffer> {
  const links = applets.map((name) => ({ path: `bin/${name}`, type: "2", target: "busybox" }));
  const program = { path: "bin/busybox", mode: 0o755, content: await readFile("/bin/busybox") };
  return tarOf([{ path: "bin/", type: "5", mode: 0o755 }, program, ...links]);
}

/** The disk of an image, made as for a machine. Layers lie in the directory meanwhile. */
export async function diskOf(image: TestImage, name: string, directory: string): Promise<string> {
  const layers = [];
  for (const [number, { blob, digest, diffId }] of image.layers.entries()) {
    const path = join(directory, `layer-${number}`);
    await writeFile(path, blob);
    layers.push({ path, digest, bytes: blob.length, diffId });
  }
  const target = join(directory, `${name.replace(/\W+/g, "-")}.sqfs`);
  await composeDisk({ ...image, names: [name], layers, target, limits: usualLimits, jobs: 1 });
  return target;
}
