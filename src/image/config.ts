import { join } from "node:path";
import { z } from "zod";

/** Hosts of a fleet take the first part for the registry, and look a tag up at every create: a digest they have stays good. */
const PINNED_REFERENCE = /^([^/]+[.:][^/]*|localhost)\/[^@\s]+@sha256:[0-9a-f]{64}$/;

const RootConfig = z.strictObject({
  root: z
    .string()
    .regex(
      PINNED_REFERENCE,
      "expected REGISTRY/NAME@sha256:… (the digest is told by: skopeo inspect docker://REGISTRY/NAME:TAG)",
    )
    .meta({ description: "The OCI image with the root file system, as hosts pull it." }),
  base: z.string().min(1).default("base").meta({
    description:
      "The pushed image of this computer whose kernel and initramfs boot it, and whose gitlab-runner stands for the one in it.",
  }),
});

/** The `images` part of the configuration. What `image build` alone asks for is read by each build: a running FireRunner needs none of it. */
export const ImagesConfig = z
  .strictObject({
    directory: z
      .string()
      .startsWith("/", "give an absolute path")
      .optional()
      .meta({ description: "Where images lie; by default in the state directory.", reload: "restart" }),
    suite: z
      .string()
      .regex(/^[a-z]+$/)
      .optional()
      .meta({ description: "Debian or Ubuntu release of the images; by default that of this computer." }),
    sources: z
      .array(z.string().startsWith("deb "))
      .default([])
      .meta({ description: "Package sources as in sources.list; by default those of this computer's apt." }),
    packages: z
      .array(z.string().regex(/^[a-z0-9][a-z0-9+.-]+$/, "expected the name of a package"))
      .default([])
      .meta({ description: "Packages in images beside git, curl and what they need." }),
    runnerMirror: z
      .url()
      .optional()
      .meta({ description: "Where the official gitlab-runner is downloaded from, if not from GitLab." }),
    runnerKeyFile: z.string().startsWith("/", "give an absolute path").optional().meta({
      description:
        "A file with GitLab's public key, which signs the official gitlab-runner; else it is downloaded from the mirror or from GitLab.",
    }),
    allowHttpMirror: z.boolean().default(false).meta({
      description:
        "Let runnerMirror be an http address of another computer. What comes from it is checked by signature all the same.",
    }),
    warm: z
      .array(
        z
          .string()
          .regex(/^[a-z0-9[][^\s$]{0,300}$/i, "expected the name of a container image, such as node:24"),
      )
      .max(100)
      .refine((names) => new Set(names).size === names.length, "the same image is named twice")
      .default([])
      .meta({
        description:
          "Container images of jobs to keep at hand, such as node:24; tags are followed. With the logins of containers.registries.",
      }),
    roots: z
      .record(z.string().regex(/^[a-z0-9][a-z0-9._-]*$/, "expected a name such as ubuntu-24.04"), RootConfig)
      .default({})
      .meta({
        description:
          "Root file systems of other people for machines on a fleet, by the name that pools use: with cloud-init, bash, socat, git and gitlab-runner.",
      }),
  })
  .meta({ reload: "live" });
export type ImagesConfig = z.infer<typeof ImagesConfig>;
export type Roots = ImagesConfig["roots"];
export type Root = Roots[string];

/** The root of this name, if there is one: a name may be that of anything. */
export function rootNamed(roots: Roots, name: string): Root | undefined {
  return Object.hasOwn(roots, name) ? roots[name] : undefined;
}

/** Where images lie: beside the rest of the state, unless the configuration names a directory. */
export function imageDirectory({
  images,
  state,
}: {
  readonly images: ImagesConfig;
  readonly state: string;
}): string {
  return images.directory ?? join(state, "images");
}
