import { X509Certificate } from "node:crypto";
import { getCACertificates } from "node:tls";
import { Agent, type Dispatcher, EnvHttpProxyAgent } from "undici";
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
}

export interface Transport {
  readonly origin: string;
  readonly dispatcher: Dispatcher;
}

/** Throws `registry_tls` when `ca` holds no certificate. */
export function createTransport({ registry, plainHttp, ca }: TransportOptions): Transport {
  const isLocal = isLocalRegistry(registry);
  const isPlain = plainHttp ?? (isLocal && ca === undefined);
  const trusted = ca === undefined ? {} : { ca: [...knownAuthorities(), checkedCertificate(ca)] };
  const options = {
    connect: { timeout: CONNECT_TIMEOUT_MS, ...trusted },
    // One request per connection at a time.
    pipelining: 1,
    headersTimeout: ANSWER_TIMEOUT_MS,
    bodyTimeout: ANSWER_TIMEOUT_MS,
  };
  return {
    origin: `${isPlain ? "http" : "https"}://${registry}`,
    // A proxy of the environment leads out of this computer; a registry here is not behind it.
    dispatcher: isLocal ? new Agent(options) : new EnvHttpProxyAgent({ ...options, requestTls: trusted }),
  };
}

function knownAuthorities(): Set<string> {
  return new Set([...getCACertificates("default"), ...getCACertificates("system")]);
}

/** TLS ignores what it cannot read, and every connection would fail later with no hint at the file. */
function checkedCertificate(pem: string): string {
  try {
    new X509Certificate(pem);
    return pem;
  } catch (cause) {
    throw new RegistryError("registry_tls", "the file of the certificate authority holds no certificate", {
      cause,
      hint: "give a file with certificates in PEM form (-----BEGIN CERTIFICATE-----)",
    });
  }
}
