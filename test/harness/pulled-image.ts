import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { run } from "../../src/base/process.ts";

interface Manifest {
  readonly config: { readonly digest: string };
  readonly layers: readonly { readonly digest: string; readonly mediaType: string }[];
}

export interface PulledImage {
  readonly config: {
    readonly architecture: string;
    readonly os: string;
    readonly rootfs: { readonly diff_ids: string[] };
  };
  /** Files with the layers as they were pulled. */
  readonly layers: readonly string[];
}

/** Reads an image back with skopeo, a program of others, which checks every digest on the way. */
export async function pullImage(
  reference: string,
  directory: string,
  options: readonly string[] = ["--src-tls-verify=false"],
): Promise<PulledImage> {
  await run("skopeo", ["copy", "--quiet", ...options, `docker://${reference}`, `dir:${directory}`]);
  const at = (digest: string) => join(directory, digest.replace("sha256:", ""));
  const manifest = JSON.parse(await readFile(join(directory, "manifest.json"), "utf8")) as Manifest;
  const config = JSON.parse(await readFile(at(manifest.config.digest), "utf8")) as PulledImage["config"];
  return { config, layers: manifest.layers.map(({ digest }) => at(digest)) };
}

/** Runs GNU tar on a pulled layer. */
export async function tarWithLayer(layer: string, args: readonly string[]): Promise<string> {
  return await run("tar", ["--zstd", "--numeric-owner", ...args, "-f", layer]);
}
