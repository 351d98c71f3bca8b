import { imageDirectory, type Roots } from "../../image/config.ts";
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
  return imageDirectory(await context.loadLocalConfig());
}

/** Loaded only here: the other commands should start without what building an image takes. */
export async function openImages(directory: string, roots: Roots = {}): Promise<ImageStore> {
  const { createImageStore } = await import("../../image/store.ts");
  const { withRoots } = await import("../../image/open-images.ts");
  return withRoots(createImageStore({ directory }), () => roots);
}
