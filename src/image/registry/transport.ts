import type { Dispatcher } from "undici";
import { describeError } from "../../base/errors.ts";
import { createProxiedAgent } from "../../base/proxy/agent.ts";
import { directRoutes, type ProxyRoutes } from "../../base/proxy/routes.ts";
import { certificatesIn, trustContext } from "../../base/tls.ts";
import { RegistryError } from "./errors.ts";
import { isLocalRegistry } from "./reference.ts";

const CONNECT_TIMEOUT_MS = 10_000;
/** A registry puts a large layer together, and checks it, before it answers. */
const ANSWER_TIMEOUT_MS = 300_000;

export interface TransportOptions {
  readonly registry: string;
  /** Without it: plain HTTP with this computer, TLS with all others and wherever a `ca` is given. */
  readonly plainHttp?: boolean | undefined;
  /** PEM of authorities to trust besides those of Node and of the system. */
  readonly ca?: string | undefined;
  /** Through which proxies registries are reached; by default through none. */
  readonly proxies?: ProxyRoutes | undefined;
}

export interface Transport {
  readonly origin: string;
  readonly dispatcher: Dispatcher;
}

/** Throws `registry_tls` when `ca` holds no certificate. */
export function createTransport({
  registry,
  plainHttp,
  ca,
  proxies = directRoutes,
}: TransportOptions): Transport {
  const isPlain = plainHttp ?? (isLocalRegistry(registry) && ca === undefined);
  if (ca !== undefined) checkAuthorities(ca);
  const secureContext = trustContext([ca, proxies.ca]);
  return {
    origin: `${isPlain ? "http" : "https"}://${registry}`,
    dispatcher: createProxiedAgent({
      proxies,
      connectTimeoutMs: CONNECT_TIMEOUT_MS,
      secureContext: () => secureContext,
      headersTimeoutMs: ANSWER_TIMEOUT_MS,
      bodyTimeoutMs: ANSWER_TIMEOUT_MS,
    }),
  };
}

/** TLS ignores what it cannot read, and every connection would fail later with no hint at the file. */
function checkAuthorities(pem: string): void {
  try {
    certificatesIn(pem);
  } catch (cause) {
    throw new RegistryError(
      "registry_tls",
      `the file of the certificate authority: ${describeError(cause)}`,
      {
        cause,
        hint: "give a file with certificates in PEM form (-----BEGIN CERTIFICATE-----)",
      },
    );
  }
}
