/**
 * What machines may boot: the images of this computer, and roots of other people. Such a root is an OCI image that hosts of a fleet pull,
 * booted with the kernel and the initramfs of an image of ours. What is known of its runner is what is known of that image's: gitlab-runner
 * says the same of itself wherever it is of the same version.
 */

import { type AbilityName, abilityNames, type ImageNote, lackingNote } from "../domain/images.ts";
import { type ImagesConfig, imageDirectory, type Root, type Roots, rootNamed } from "./config.ts";
import { sha256 } from "./manifest.ts";
import { createImageStore, type ImageStore, type ResolvedImage } from "./store.ts";

interface Settings {
  readonly images: ImagesConfig;
  readonly state: string;
}

/** What machines may boot: the images of this computer, and the roots that the configuration names just then. */
export function openImages(config: () => Settings): ImageStore {
  return withRoots(createImageStore({ directory: imageDirectory(config()) }), () => config().images.roots);
}

/** The images of `store` and, by name or digest, those `roots`. */
export function withRoots(store: ImageStore, roots: () => Roots): ImageStore {
  async function rootOf(name: string): Promise<Root | undefined> {
    const named = rootNamed(roots(), name);
    if (named || !name.startsWith("sha256:")) return named;
    for (const root of Object.values(roots())) {
      const base = await store.resolve(root.base).catch(() => undefined);
      if (base && digestOf(base, root) === name) return root;
    }
    return undefined;
  }

  return {
    ...store,
    async resolve(name) {
      const root = await rootOf(name);
      return root ? put(await store.resolve(root.base), root) : await store.resolve(name);
    },
    async verify(name, signal) {
      const root = await rootOf(name);
      if (!root) return await store.verify(name, signal);
      const verified = await store.verify(root.base, signal);
      return { ...verified, image: put(verified.image, root) };
    },
  };
}

/** Nothing of it lies here but what boots it. */
function put(base: ResolvedImage, root: Root): ResolvedImage {
  const { published, ...rest } = base;
  return {
    ...rest,
    digest: digestOf(base, root),
    layers: [],
    // No engine is there, whatever the image has that boots it.
    containerRunnerInfo: undefined,
    // cloud-init brings the guest's own part from this very program; which packages are there is not ours to say.
    abilities: abilityNames,
    ...(published ? { published: { ...published, root: root.root, cloudInit: true } } : {}),
  };
}

function digestOf(base: ResolvedImage, { root }: Root): string {
  return `sha256:${sha256(`${base.digest} ${root}`)}`;
}

/** What images lack of what is wanted of them, by their names; nothing of those that are not here. Reads image.json only. */
export async function imageNotes(
  store: Pick<ImageStore, "list">,
  wanted: ReadonlyMap<string, readonly AbilityName[]>,
): Promise<ImageNote[]> {
  const images = await store.list();
  return [...wanted].flatMap(([name, abilities]) => {
    const image = images.find((each) => each.names.includes(name));
    const note = image && lackingNote({ ...image.manifest, name }, abilities);
    return note ? [note] : [];
  });
}
