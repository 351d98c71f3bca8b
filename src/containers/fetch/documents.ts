/** What registries say of images: indexes, manifests and configurations, of OCI's and of Docker's making, as far as they are used here. */
import { z } from "zod";
import { parseJson } from "../../base/json.ts";
import { MIB_BYTES } from "../../base/units.ts";
import { ContainerError } from "../errors.ts";

/** Registries themselves take no larger ones. */
export const DOCUMENT_BYTES_MAX = 4 * MIB_BYTES;
/** As many as the kernel puts upon each other. */
const LAYERS_MAX = 127;
export const LAYER_BYTES_MAX = 32 * 1024 * MIB_BYTES;

const indexTypes = [
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
];
const manifestTypes = [
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.v2+json",
];
export const acceptedTypes = [...manifestTypes, ...indexTypes].join(", ");

const Digest = z.string().regex(/^sha256:[0-9a-f]{64}$/);
const Descriptor = z.object({
  digest: Digest,
  size: z.number().int().min(0),
  mediaType: z.string().optional(),
});
const Platform = z.object({ architecture: z.string(), os: z.string(), variant: z.string().optional() });

const Index = z.object({
  manifests: z
    .array(Descriptor.extend({ platform: Platform.optional() }))
    .min(1)
    .max(1_000),
});
const Manifest = z.object({ config: Descriptor, layers: z.array(Descriptor).min(1).max(LAYERS_MAX) });
const Config = z.object({
  architecture: z.string(),
  os: z.string(),
  rootfs: z.object({ diff_ids: z.array(Digest).min(1).max(LAYERS_MAX) }),
});

export interface Blob {
  readonly digest: string;
  readonly bytes: number;
}

interface ManifestContent {
  readonly config: Blob;
  /** The lowest first. */
  readonly layers: readonly Blob[];
}

/** An index, by what was chosen from it, or a manifest. */
type DocumentContent = { readonly chosen: string } | { readonly manifest: ManifestContent };

const archs: Readonly<Record<string, string>> = { x64: "amd64", arm64: "arm64" };

/** This computer's, as images name it. */
export function hostArchitecture(): string {
  return archs[process.arch] ?? process.arch;
}

/** What a manifest or an index says it is; OCI's older ones say it by their fields. Undefined for what is neither. */
export function mediaTypeOf(body: Buffer): string | undefined {
  const told = Told.safeParse(parseJson(body.toString("utf8")));
  if (!told.success) return undefined;
  const { mediaType, manifests, layers } = told.data;
  if (mediaType !== undefined) return mediaType;
  return manifests !== undefined ? indexTypes[0] : layers !== undefined ? manifestTypes[0] : undefined;
}

const Told = z.looseObject({
  schemaVersion: z.literal(2),
  mediaType: z
    .string()
    .max(255)
    .regex(/^[a-z0-9][\w.+-]*\/[\w.+-]+$/i)
    .optional(),
  manifests: z.array(z.unknown()).optional(),
  layers: z.array(z.unknown()).optional(),
});

/** Throws `container_bad_image`, `container_wrong_platform` or `container_too_large`. */
export function readDocument(body: Buffer, name: string, architecture: string): DocumentContent {
  const json = parseJson(body.toString("utf8"));
  if (typeof json === "object" && json !== null && "manifests" in json) {
    const index = Index.safeParse(json);
    if (!index.success) throw bad(name, "its index is damaged");
    return { chosen: choose(index.data.manifests, name, architecture) };
  }
  const manifest = Manifest.safeParse(json);
  if (manifest.success) return { manifest: contentOf(manifest.data, name) };
  const isOld = typeof json === "object" && json !== null && "fsLayers" in json;
  const what = json === undefined ? "what the registry sends is no manifest" : "its manifest cannot be used";
  throw bad(name, isOld ? "its manifest has the form that Docker gave up in 2017" : what);
}

function contentOf({ config, layers }: z.infer<typeof Manifest>, name: string): ManifestContent {
  const blobs = layers.map(({ digest, size }) => ({ digest, bytes: size }));
  if (config.size > DOCUMENT_BYTES_MAX || blobs.some(({ bytes }) => bytes > LAYER_BYTES_MAX))
    throw new ContainerError("container_too_large", `${name} is too large to be run here`, {
      hint: "a layer may have 32 GiB, and what describes the image 4 MiB",
    });
  return { config: { digest: config.digest, bytes: config.size }, layers: blobs };
}

function choose(manifests: z.infer<typeof Index>["manifests"], name: string, architecture: string): string {
  const fitting = manifests.filter(
    ({ platform }) => platform?.os === "linux" && platform.architecture === architecture,
  );
  // Of several, the one that asks for nothing in particular; v8 is what every arm64 is.
  const plain = fitting.find(({ platform }) => [undefined, "", "v8", "v1"].includes(platform?.variant));
  const chosen = plain ?? fitting[0];
  if (chosen) return chosen.digest;
  const there = manifests.flatMap(({ platform }) =>
    platform && platform.os !== "unknown" ? [`${platform.os}/${platform.architecture}`] : [],
  );
  throw wrongPlatform(
    name,
    architecture,
    [...new Set(there)].join(", ").slice(0, 200) || "none that is named",
  );
}

/** The digests of the layers' archives. Throws `container_bad_image` or `container_wrong_platform`. */
export function readConfig(
  body: Buffer,
  name: string,
  { architecture, layers }: { readonly architecture: string; readonly layers: number },
): readonly string[] {
  const config = Config.safeParse(parseJson(body.toString("utf8")));
  if (!config.success) throw bad(name, "its configuration is damaged, or it is no image of files");
  const { os, architecture: own, rootfs } = config.data;
  if (os !== "linux" || own !== architecture) throw wrongPlatform(name, architecture, `${os}/${own}`);
  if (rootfs.diff_ids.length === layers) return rootfs.diff_ids;
  throw bad(name, `it has ${layers} layers, and its configuration tells of ${rootfs.diff_ids.length}`);
}

function wrongPlatform(name: string, architecture: string, there: string): ContainerError {
  return new ContainerError(
    "container_wrong_platform",
    `${name} is not there for linux/${architecture}, only for ${there}`,
    { hint: "name an image that is made for this computer's architecture" },
  );
}

function bad(name: string, problem: string): ContainerError {
  return new ContainerError("container_bad_image", `${name} cannot be used: ${problem}`, {
    hint: "check the name, and that the registry's answer is not a proxy's",
  });
}
