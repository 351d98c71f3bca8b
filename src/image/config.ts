import { z } from "zod";

/** The `images` part of the configuration. */
export const ImagesConfig = z.strictObject({
  directory: z
    .string()
    .startsWith("/", "give an absolute path")
    .optional()
    .meta({ description: "Where images lie; by default in the state directory." }),
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
});
export type ImagesConfig = z.infer<typeof ImagesConfig>;
