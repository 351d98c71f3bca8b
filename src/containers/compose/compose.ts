/**
 * The disk of an image: its layers, put together as a store that podman takes as it is, in one stream from the blobs to tar2sqfs. Nothing is
 * unpacked into files, no rights are needed, and what a layer says is checked before anything is made of it.
 */
import { MIB_BYTES } from "../../base/units.ts";
import { ContainerError } from "../errors.ts";
import type { Attributes } from "./entry.ts";
import { type Emitted, emitLayer, type LayerBlob, type LayerLimits, type Write } from "./layer.ts";
import { LayerRefusal, shown } from "./refusal.ts";
import { startSquash } from "./squash.ts";
import {
  layerBeginning,
  layerEnd,
  placeLayers,
  type StoredImage,
  storeBeginning,
  storeEnd,
} from "./storage.ts";
import { tarEnd } from "./tar-write.ts";

export interface ComposeOrder extends StoredImage {
  /** The lowest first. */
  readonly layers: readonly LayerBlob[];
  /** Must not exist. */
  readonly target: string;
  readonly limits: ComposeLimits;
  /** How many processors tar2sqfs may use. */
  readonly jobs: number;
}

/** `unpackedBytes` is that of all layers together. */
export type ComposeLimits = LayerLimits;

export const usualLimits: ComposeLimits = {
  unpackedBytes: 64 * 1024 * MIB_BYTES,
  ratio: 200,
  ratioFromBytes: 512 * MIB_BYTES,
  pathBytes: 4096,
  heldBytes: 256 * MIB_BYTES,
  entries: 1_000_000,
};

/** What podman gives the root of the lowest layer. */
const lowest: Attributes = { mode: 0o555, uid: 0, gid: 0, mtimeS: 0, xattrs: [] };

/** Answers the disk's size. Throws `container_layer_refused` or `container_compose_failed`, and leaves nothing behind then. */
export async function composeDisk(order: ComposeOrder): Promise<number> {
  const { target, jobs, limits } = order;
  const squash = await startSquash({ target, jobs, bytesMax: limits.unpackedBytes });
  try {
    await writeStore({ ...order, spool: `${target}.layer` }, squash.write);
    return await squash.end();
  } catch (error) {
    await squash.abandon();
    throw error;
  }
}

/** The archive of the store. */
export async function writeStore(
  { spool, ...order }: Omit<ComposeOrder, "target" | "jobs"> & { readonly spool: string },
  write: Write,
): Promise<void> {
  const { layers, limits } = order;
  const placed = placeLayers(layers);
  await write(storeBeginning(order));
  const emitted: Emitted[] = [];
  let left = limits.unpackedBytes;
  for (const [number, blob] of layers.entries()) {
    const place = placed[number];
    if (place === undefined) continue;
    await write(layerBeginning(place, placed.slice(0, number).reverse()));
    const options = {
      prefix: `overlay/${place.id}/diff/`,
      lower: emitted.at(-1)?.root ?? lowest,
      limits: { ...limits, unpackedBytes: left },
      ...{ write, spool },
    };
    const layer = await emitLayer(blob, options).catch((error: unknown) => {
      throw refused(error, order.names[0] ?? "", blob);
    });
    await write([layerEnd(place, layer)]);
    emitted.push(layer);
    left -= layer.unpackedBytes;
  }
  const whole = placed.flatMap((place, number) => {
    const [blob, layer] = [layers[number], emitted[number]];
    return blob && layer ? [{ ...place, blob, emitted: layer }] : [];
  });
  await write([...storeEnd(order, whole), tarEnd]);
}

function refused(error: unknown, image: string, { digest }: LayerBlob): unknown {
  if (!(error instanceof LayerRefusal)) return error;
  const where = error.path === undefined ? "" : ` at “${shown(error.path)}”`;
  return new ContainerError(
    "container_layer_refused",
    `the layer ${digest.slice(0, 19)} of ${image} is refused${where}: ${error.message}`,
    { cause: error, hint: "build the image anew with a common tool; nothing of it was kept" },
  );
}
