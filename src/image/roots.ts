/**
 * Roots of other people: an OCI image that hosts of a fleet pull, booted with the kernel and the initramfs of an image of ours. What is
 * known of its runner is what is known of that image's: gitlab-runner says the same of itself wherever it is of the same version.
 */
import { abilityNames } from "../domain/images.ts";
import { type Root, type Roots, rootNamed } from "./config.ts";
import { sha256 } from "./manifest.ts";
import type { ImageStore, ResolvedImage } from "./store.ts";

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
    // cloud-init brings the guest's own part from this very program; which packages are there is not ours to say.
    abilities: abilityNames,
    ...(published ? { published: { ...published, root: root.root, cloudInit: true } } : {}),
  };
}

function digestOf(base: ResolvedImage, { root }: Root): string {
  return `sha256:${sha256(`${base.digest} ${root}`)}`;
}
