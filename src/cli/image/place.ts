import { join } from "node:path";
import type { LocalConfig } from "../../config/load.ts";
import type { ImageStore } from "../../image/store.ts";
import type { Context } from "../context.ts";

export interface Place {
  readonly directory?: string;
}

export const placeOption = [
  "--directory <path>",
  "where images lie (default: images.directory, or images in the state directory)",
] as const;

export async function directoryOf(context: Context, { directory }: Place): Promise<string> {
  if (directory !== undefined) return directory;
  return imagesOf(await context.loadLocalConfig());
}

export function imagesOf({ state, images }: LocalConfig): string {
  return images.directory ?? join(state, "images");
}

/** Loaded only here: the other commands should start without what building an image takes. */
export async function openImages(directory: string): Promise<ImageStore> {
  const { createImageStore } = await import("../../image/store.ts");
  return createImageStore({ directory });
}
