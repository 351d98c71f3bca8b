import type { Config } from "../config/load.ts";
import { imageDirectory } from "../image/config.ts";
import { withRoots } from "../image/roots.ts";
import { createImageStore, type ImageStore } from "../image/store.ts";

type Settings = Pick<Config, "images" | "state">;

/** What machines may boot: the images of this computer, and the roots that the configuration names just then. */
export function openImages(config: () => Settings): ImageStore {
  return withRoots(createImageStore({ directory: imageDirectory(config()) }), () => config().images.roots);
}
