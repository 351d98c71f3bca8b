import { type ImagesConfig, imageDirectory } from "./config.ts";
import { withRoots } from "./roots.ts";
import { createImageStore, type ImageStore } from "./store.ts";

interface Settings {
  readonly images: ImagesConfig;
  readonly state: string;
}

/** What machines may boot: the images of this computer, and the roots that the configuration names just then. */
export function openImages(config: () => Settings): ImageStore {
  return withRoots(createImageStore({ directory: imageDirectory(config()) }), () => config().images.roots);
}
