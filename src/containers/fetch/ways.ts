/**
 * The ways to registries. One that the operator has named may be anywhere, and is spoken with as the configuration says. One that a job has
 * named must have a public address, and so must all that it leads to: its token service, and where it keeps its blobs.
 */
import type { ProxyRoutes } from "../../base/proxy/routes.ts";
import { targetOfUrl } from "../../base/proxy/routes.ts";
import type { Credentials } from "../../registry/credentials.ts";
import { RegistryError } from "../../registry/errors.ts";
import { createTransport, type Transport } from "../../registry/session.ts";
import { createAddressGuard } from "../../relay/egress/addresses.ts";
import { createDialer, type Dialer } from "../../relay/egress/egress-dialer.ts";
import { refusalIn } from "../../relay/egress/egress-policy.ts";
import type { NamedRegistry } from "../config.ts";
import { ContainerError } from "../errors.ts";
import { type ImageReference, serverOf } from "../reference.ts";

export interface Ways {
  /** `isTrusted`: the operator has named this image. */
  to(reference: ImageReference, isTrusted: boolean): Transport;
  loginFor(reference: ImageReference): Credentials | undefined;
  close(): Promise<void>;
}

interface WaysOptions {
  readonly registries: ReadonlyMap<string, NamedRegistry>;
  readonly proxies: ProxyRoutes;
}

const CONNECT_TIMEOUT_MS = 10_000;

export function createWays({ registries, proxies }: WaysOptions): Ways {
  const dialer = createDialer({ guard: createAddressGuard(), connectTimeoutMs: CONNECT_TIMEOUT_MS, proxies });
  return {
    to({ registry }, isTrusted) {
      const named = registries.get(registry);
      const server = named?.mirror ?? serverOf(registry);
      if (named === undefined && !isTrusted) return checkedTransport(server, dialer);
      const plainHttp = named?.plaintext === true ? true : undefined;
      return createTransport({ registry: server, plainHttp, ca: named?.ca, proxies });
    },
    loginFor: ({ registry }) => registries.get(registry)?.login,
    close: () => dialer.close(),
  };
}

function checkedTransport(server: string, dialer: Dialer): Transport {
  return {
    origin: `https://${server}`,
    async request(wanted) {
      const { host, port } = targetOfUrl(new URL(wanted.origin));
      const destination = { target: { host, port }, addresses: false, named: false } as const;
      return await dialer.request(destination, wanted).catch((error: unknown) => {
        throw refusedAddress(error) ?? error;
      });
    },
    // All of them share one.
    close: async () => {},
  };
}

function refusedAddress(cause: unknown): ContainerError | RegistryError | undefined {
  const refusal = refusalIn(cause);
  if (refusal === undefined) return undefined;
  if (refusal.status === 403)
    return new ContainerError(
      "container_forbidden_address",
      `${refusal.message}; registries within are those of containers.registries`,
      { cause, hint: "name the registry in containers.registries if jobs may have images from there" },
    );
  return new RegistryError("registry_unreachable", refusal.message, {
    cause,
    hint: "check the registry's name, and the network",
    retryable: true,
  });
}
