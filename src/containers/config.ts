import { join } from "node:path";
import { z } from "zod";
import type { ProxyRoutes } from "../base/proxy/routes.ts";
import { MIB_BYTES } from "../base/units.ts";
import { sizeMib } from "../domain/config.ts";
import type { Credentials } from "../registry/credentials.ts";

const registryHost = z
  .string()
  .regex(/^(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:]+\])(?::\d{1,5})?$/, "expected HOST or HOST:PORT");

const RegistrySettings = z
  .strictObject({
    usernameFile: z.string().optional().meta({ description: "A file that holds the user's name." }),
    passwordFile: z
      .string()
      .optional()
      .meta({ description: "A file that holds the password, or a token that the registry takes for one." }),
    caFile: z.string().optional().meta({
      description: "PEM file of a certificate authority that this registry's certificate may be from.",
    }),
    mirror: registryHost.optional().meta({
      description: "A registry that is asked in this one's place, under the same names and with this login.",
    }),
    plaintext: z
      .boolean()
      .default(false)
      .meta({ description: "Speak HTTP without TLS with it: anybody on the way can read the login." }),
  })
  .refine(({ usernameFile, passwordFile }) => (usernameFile === undefined) === (passwordFile === undefined), {
    message: "give both of usernameFile and passwordFile, or none",
  })
  .refine(({ caFile, plaintext }) => caFile === undefined || !plaintext, {
    message: "without TLS (plaintext) there is no certificate that caFile could be for",
  });
export type RegistrySettings = z.infer<typeof RegistrySettings>;

const CacheSettings = z.strictObject({
  directory: z.string().startsWith("/", "give an absolute path").optional().meta({
    description: "Where job images lie; by default containers in the state directory.",
    reload: "restart",
  }),
  size: sizeMib()
    .default(40 * 1024)
    .meta({
      description:
        "How much they may take up: what was not used for longest goes first, what is in use stays.",
      reload: "restart",
    }),
  minFree: sizeMib()
    .default(5 * 1024)
    .meta({ description: "How much of their disk they leave free, whatever size says.", reload: "restart" }),
});

/** The `containers` part of the configuration: images that jobs name. */
export const ContainersConfig = z
  .strictObject({
    cache: CacheSettings.prefault({}).meta({ description: "Where images are kept, and how many." }),
    registries: z.record(registryHost, RegistrySettings).default({}).meta({
      description:
        "Registries with a login, an authority, a mirror or an address of their own, by the host that images name (docker.io is Docker Hub). Their addresses may be private.",
      reload: "restart",
    }),
  })
  .meta({ reload: "restart" });
export type ContainersConfig = z.infer<typeof ContainersConfig>;

/** Beside the rest of the state, unless the configuration names a directory. */
export function containersDirectory({
  containers,
  state,
}: {
  readonly containers: ContainersConfig;
  readonly state: string;
}): string {
  return containers.cache.directory ?? join(state, "containers");
}

/** What the cache of job images is opened with, but for a clock. */
export function imageCacheOptions(config: {
  readonly containers: ContainersConfig;
  readonly state: string;
  readonly registries: ReadonlyMap<string, NamedRegistry>;
  readonly proxy: ProxyRoutes;
}) {
  const { size, minFree } = config.containers.cache;
  return {
    directory: containersDirectory(config),
    sizeBytes: size * MIB_BYTES,
    minFreeBytes: minFree * MIB_BYTES,
    registries: config.registries,
    proxies: config.proxy,
  };
}

/** A registry of the configuration, its files read. */
export interface NamedRegistry {
  readonly login?: Credentials | undefined;
  /** PEM. */
  readonly ca?: string | undefined;
  /** Host and port of the registry that is asked in its place. */
  readonly mirror?: string | undefined;
  readonly plaintext: boolean;
}
