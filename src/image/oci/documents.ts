/** The JSON documents of an OCI image. They say nothing but what follows from the layers, so equal content has equal digests. */
import type { OciDocument } from "../../registry/client.ts";
import { sha256 } from "../manifest.ts";

const MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+zstd";

/** A compressed layer. */
export interface LayerBlob {
  /** `sha256:` of the bytes as they are sent. */
  readonly digest: string;
  readonly bytes: number;
  /** `sha256:` of the archive before compression. */
  readonly diffId: string;
}

export function configOf(layers: readonly LayerBlob[], architecture: string): OciDocument {
  return document(CONFIG_TYPE, {
    architecture,
    os: "linux",
    config: {},
    rootfs: { type: "layers", diff_ids: layers.map(({ diffId }) => diffId) },
  });
}

export function manifestOf(layers: readonly LayerBlob[], config: OciDocument): OciDocument {
  return document(MANIFEST_TYPE, {
    schemaVersion: 2,
    mediaType: MANIFEST_TYPE,
    config: { mediaType: CONFIG_TYPE, digest: config.digest, size: config.body.length },
    layers: layers.map(({ digest, bytes }) => ({ mediaType: LAYER_TYPE, digest, size: bytes })),
  });
}

function document(mediaType: string, content: object): OciDocument {
  const body = Buffer.from(JSON.stringify(content));
  return { mediaType, digest: `sha256:${sha256(body)}`, body };
}
