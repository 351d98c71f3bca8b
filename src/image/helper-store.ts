/**
 * The store with the runner's helper image, as the engine of a machine reads it beside its own (containers/storage's form of a read-only
 * store). The image has no files of its own: its layers are those of the machine's image, which guest/container-engine mounts in their
 * places. So the helper is the very gitlab-runner of the image, with the git and the certificates of its base, and takes no room.
 */
import { mkdir, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { IMAGE_EPOCH_S } from "./base-layer.ts";
import { sha256 } from "./manifest.ts";

/** As the runner is told it (guest/firerunner-init). */
export const HELPER_NAME = "localhost/firerunner/helper:latest";

const CREATED = new Date(IMAGE_EPOCH_S * 1000).toISOString();

const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

interface Layer {
  readonly id: string;
  readonly diffId: string;
  readonly link: string;
}

/** Writes the store to `target`, for an image of this architecture and these layers, the lowest first. */
export async function writeHelperStore(
  target: string,
  architecture: string,
  layerNames: readonly string[],
): Promise<void> {
  const layers = chainOf(layerNames);
  const files: Record<string, string> = {
    // Which layer of the machine's image lies where.
    layers: layers.map(({ id }) => `${id}\n`).join(""),
    "overlay-layers/layers.json": JSON.stringify(layers.map(layerRecord)),
    "overlay-layers/layers.lock": "",
    ...imageFiles(architecture, layers),
  };
  for (const [index, { id, link }] of layers.entries()) {
    const below = layers.slice(0, index).toReversed();
    files[`overlay/${id}/link`] = link;
    if (below.length > 0) files[`overlay/${id}/lower`] = below.map((each) => `l/${each.link}`).join(":");
    for (const folder of ["diff", "work", "merged"])
      await mkdir(join(target, "overlay", id, folder), { recursive: true });
  }
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(target, path)), { recursive: true });
    await writeFile(join(target, path), content);
  }
  await mkdir(join(target, "overlay/l"), { recursive: true });
  for (const { id, link } of layers) await symlink(`../${id}/diff`, join(target, "overlay/l", link));
}

/** Nothing ever computes a digest of these layers, so their names stand for their content. */
function chainOf(names: readonly string[]): Layer[] {
  const layers: Layer[] = [];
  for (const name of names) {
    const diffId = sha256(`firerunner helper ${name}`);
    const below = layers.at(-1);
    const id = below ? sha256(`${below.id}+${diffId}`) : diffId;
    // 26 capitals or digits, as the engine makes them.
    const link = id.slice(0, 26).toUpperCase();
    layers.push({ id, diffId, link });
  }
  return layers;
}

function layerRecord({ id, diffId }: Layer, index: number, all: readonly Layer[]): unknown {
  const digest = `sha256:${diffId}`;
  return {
    id,
    ...(index > 0 ? { parent: all[index - 1]?.id } : {}),
    created: CREATED,
    "compressed-diff-digest": digest,
    "compressed-size": 1,
    "diff-digest": digest,
    "diff-size": 1,
    compression: 2,
    uidset: [0],
    gidset: [0],
  };
}

function imageFiles(architecture: string, layers: readonly Layer[]): Record<string, string> {
  const config = JSON.stringify({
    created: CREATED,
    architecture,
    os: "linux",
    config: { Env: [`PATH=${PATH}`, "LANG=C.UTF-8"], Cmd: ["/bin/bash"], WorkingDir: "/" },
    rootfs: { type: "layers", diff_ids: layers.map(({ diffId }) => `sha256:${diffId}`) },
    history: layers.map(() => ({ created: CREATED })),
  });
  const id = sha256(config);
  const manifest = JSON.stringify({
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    config: {
      mediaType: "application/vnd.oci.image.config.v1+json",
      digest: `sha256:${id}`,
      size: Buffer.byteLength(config),
    },
    layers: layers.map(({ diffId }) => ({
      mediaType: "application/vnd.oci.image.layer.v1.tar+gzip",
      digest: `sha256:${diffId}`,
      size: 1,
    })),
  });
  const digest = `sha256:${sha256(manifest)}`;
  const big = { [`sha256:${id}`]: config, [`manifest-${digest}`]: manifest, manifest };
  const record = {
    id,
    digest,
    names: [HELPER_NAME],
    layer: layers.at(-1)?.id,
    metadata: "{}",
    "big-data-names": Object.keys(big),
    "big-data-sizes": mapValues(big, (text) => Buffer.byteLength(text)),
    "big-data-digests": mapValues(big, (text) => `sha256:${sha256(text)}`),
    created: CREATED,
  };
  const files: Record<string, string> = {
    "overlay-images/images.json": JSON.stringify([record]),
    "overlay-images/images.lock": "",
  };
  for (const [name, content] of Object.entries(big)) files[`overlay-images/${id}/${fileOf(name)}`] = content;
  return files;
}

/** Names that are no plain words are files by their base64. */
function fileOf(name: string): string {
  return /^[a-z]+$/.test(name) ? name : `=${Buffer.from(name).toString("base64")}`;
}

function mapValues<Value>(
  record: Record<string, string>,
  map: (text: string) => Value,
): Record<string, Value> {
  return Object.fromEntries(Object.entries(record).map(([name, text]) => [name, map(text)]));
}
