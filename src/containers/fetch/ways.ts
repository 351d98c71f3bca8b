/**
 * The ways to registries. One that the operator has named may be anywhere, and is spoken with as the configuration says. One that a job has
 * named must have a public address, and so must all that it leads to: its token service, and where it keeps its blobs.
 */
import type { ProxyRoutes } from "../../base/proxy/routes.ts";
import { targetOfUrl } from "../../base/proxy/routes.ts";
import type { Credentials } from "../../registry/credentials.ts";
import { RegistryError } from "../../registry/errors.ts";
import { isLocalRegistry } from "../../registry/reference.ts";
import { createTransport, type Transport } from "../../registry/session.ts";
import { createAddressGuard } from "../../relay/egress/addresses.ts";
import { createDialer, type Dialer } from "../../relay/egress/egress-dialer.ts";
import { refusalIn, type Target } from "../../relay/egress/egress-policy.ts";
import type { GuestWays } from "../../relay/mirror/port.ts";
import type { NamedRegistry } from "../config.ts";
import { ContainerError } from "../errors.ts";
import { type ImageReference, serverOf } from "../reference.ts";

export interface Ways {
  /** `isTrusted`: the operator has named this image. What it opens is closed with the ways. */
  to(reference: ImageReference, isTrusted: boolean): Transport;
  /** For an image that a guest pulls: its pool's rules hold for the registry by its own name, whatever is asked in its place. */
  ofGuest(reference: ImageReference, guest: GuestWays): Transport;
  loginFor(reference: ImageReference): Credentials | undefined;
  close(): Promise<void>;
}

interface WaysOptions {
  readonly registries: ReadonlyMap<string, NamedRegistry>;
  readonly proxies: ProxyRoutes;
}

const CONNECT_TIMEOUT_MS = 10_000;

export function createWays({ registries, proxies }: WaysOptions): Ways {
  const guard = createAddressGuard();
  const dialer = createDialer({ guard, connectTimeoutMs: CONNECT_TIMEOUT_MS, proxies });
  const trusting = new Map<string, Dialer>();
  const transports = new Map<string, Transport>();

  /** For registries whose certificates nobody else's authority has signed. */
  function dialerFor(ca: string | undefined): Dialer | undefined {
    if (ca === undefined) return undefined;
    const authorities = [ca];
    const known =
      trusting.get(ca) ??
      createDialer({ guard, connectTimeoutMs: CONNECT_TIMEOUT_MS, proxies, authorities: () => authorities });
    trusting.set(ca, known);
    return known;
  }

  /** One for all who ask there: to make one, with all authorities that this computer trusts, takes longer than most requests. */
  function transportTo(server: string, registry: string): Transport {
    const named = registries.get(registry);
    const key = `${server} ${named === undefined ? "" : registry}`;
    const plainHttp = named?.plaintext === true ? true : undefined;
    const transport =
      transports.get(key) ?? createTransport({ registry: server, plainHttp, ca: named?.ca, proxies });
    transports.set(key, transport);
    return { ...transport, close: async () => {} };
  }

  function to({ registry }: ImageReference, isTrusted: boolean): Transport {
    const named = registries.get(registry);
    const server = named?.mirror ?? serverOf(registry);
    if (named === undefined && !isTrusted) return checkedTransport(server, dialer);
    return transportTo(server, registry);
  }

  return {
    to,
    ofGuest({ registry }, guest) {
      const named = registries.get(registry);
      const server = serverOf(registry);
      if (named?.mirror !== undefined)
        return mirrorTransport(server, transportTo(named.mirror, registry), guest);
      const isPlain = named !== undefined && (named.plaintext || isLocalRegistry(server));
      const origin = `${isPlain && named.ca === undefined ? "http" : "https"}://${server}`;
      return guestTransport(origin, guest, dialerFor(named?.ca));
    },
    loginFor: ({ registry }) => registries.get(registry)?.login,
    close: async () => {
      await Promise.all([dialer, ...trusting.values(), ...transports.values()].map((each) => each.close()));
    },
  };
}

/** `own`: in the place of the relay's, where it would trust nobody there. */
function guestTransport(origin: string, guest: GuestWays, own: Dialer | undefined): Transport {
  return {
    origin,
    async request(wanted) {
      const target = targetAt(wanted.origin);
      const isRegistry = new URL(wanted.origin).origin === new URL(origin).origin;
      const destination = await (isRegistry ? guest.permit(target) : guest.permitBehind(target));
      return await guest.reach(destination, (dialer) => (own ?? dialer).request(destination, wanted));
    },
    close: async () => {},
  };
}

/** The operator's own mirror stands for the registry; what it leads to is reached as for all guests. */
function mirrorTransport(server: string, mirror: Transport, guest: GuestWays): Transport {
  return {
    origin: mirror.origin,
    async request(wanted) {
      await guest.permit(targetAt(`https://${server}`));
      if (new URL(wanted.origin).origin === new URL(mirror.origin).origin)
        return await mirror.request(wanted);
      const destination = await guest.permitBehind(targetAt(wanted.origin));
      return await guest.reach(destination, (dialer) => dialer.request(destination, wanted));
    },
    close: mirror.close,
  };
}

function targetAt(origin: string): Target {
  const { host, port } = targetOfUrl(new URL(origin));
  return { host, port };
}

function checkedTransport(server: string, dialer: Dialer): Transport {
  return {
    origin: `https://${server}`,
    async request(wanted) {
      const destination = { target: targetAt(wanted.origin), addresses: false, named: false } as const;
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
