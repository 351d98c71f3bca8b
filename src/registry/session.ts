/**
 * Requests to one registry: over TLS or plain HTTP (`createTransport`), with the login it asks for, and with every failure as a
 * RegistryError (`createSession`). `withRetries` repeats those that may be repeated.
 */
import type { Readable } from "node:stream";
import type { Dispatcher } from "undici";
import type { Clock } from "../base/clock.ts";
import { describeError } from "../base/errors.ts";
import { createProxiedAgent } from "../base/proxy/agent.ts";
import { directRoutes, type ProxyRoutes } from "../base/proxy/routes.ts";
import { backoffMs } from "../base/rates.ts";
import { certificatesIn, trustContext } from "../base/tls.ts";
import { createAuthorization, parseChallenge, type TokenRequest } from "./authorization.ts";
import type { Credentials } from "./credentials.ts";
import { type Answer, RegistryError, refusal, registryErrorFrom } from "./errors.ts";
import { isLocalRegistry } from "./reference.ts";

/** Answers that are read to their end are short; of others the beginning says enough. */
const ANSWER_BYTES_MAX = 64 * 1024;

export interface RegistryRequest {
  readonly method: Dispatcher.HttpMethod;
  /** Below the registry's address, or a whole address. */
  readonly url: string;
  readonly scopes: readonly string[];
  readonly headers?: Readonly<Record<string, string>>;
  /** Made anew when the request is sent again. */
  readonly body?: () => Buffer | Readable;
  /** What is being done, for errors: “pushing NAME”. */
  readonly doing: string;
}

export interface RegistrySession {
  readonly origin: string;
  /** Any answer but 401. */
  send(request: RegistryRequest): Promise<Answer>;
  close(): Promise<void>;
}

interface Deps {
  readonly transport: Transport;
  readonly credentials: () => Promise<Credentials | undefined>;
  readonly signal?: AbortSignal | undefined;
}

export function createSession({ transport, credentials, signal }: Deps): RegistrySession {
  const { origin, dispatcher } = transport;
  const authorization = createAuthorization({ origin, credentials, ask: askTokenService });

  async function send(request: RegistryRequest): Promise<Answer> {
    const url = new URL(request.url, origin);
    // Uploads may be sent elsewhere, to addresses that carry their own permission. Our login is the registry's business alone.
    if (url.origin !== new URL(origin).origin) return await exchange(url, request);
    const first = await exchangeWithLogin(url, request);
    if (first.status !== 401) return first;
    await authorization.learn(parseChallenge(first.header("www-authenticate")), request.scopes);
    const second = await exchangeWithLogin(url, request);
    if (second.status === 401) throw refusal(second, origin, request.doing);
    return second;
  }

  async function exchangeWithLogin(url: URL, request: RegistryRequest): Promise<Answer> {
    const login = await authorization.header(request.scopes);
    return await exchange(url, {
      ...request,
      headers: { ...request.headers, ...(login ? { authorization: login } : {}) },
    });
  }

  async function exchange(url: URL, request: Omit<RegistryRequest, "url" | "scopes">): Promise<Answer> {
    const { method, headers = {}, body, doing } = request;
    try {
      const response = await dispatcher.request({
        origin: url.origin,
        path: url.pathname + url.search,
        method,
        headers: { "user-agent": "firerunner", ...headers },
        body: body?.() ?? null,
        signal: signal ?? null,
      });
      const text = await beginningOf(response.body);
      const header = (name: string) => [response.headers[name] ?? []].flat().join(", ") || undefined;
      return { status: response.statusCode, header, text };
    } catch (cause) {
      signal?.throwIfAborted();
      throw registryErrorFrom(cause, url.origin, doing);
    }
  }

  async function askTokenService({ url, authorization: login, form }: TokenRequest): Promise<Answer> {
    return await exchange(url, {
      method: form ? "POST" : "GET",
      headers: {
        ...(login ? { authorization: login } : {}),
        ...(form ? { "content-type": "application/x-www-form-urlencoded" } : {}),
      },
      ...(form ? { body: () => Buffer.from(form.toString()) } : {}),
      doing: `asking for a token for ${origin}`,
    });
  }

  return { origin, send, close: () => dispatcher.destroy() };
}

async function beginningOf(body: Readable): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes > ANSWER_BYTES_MAX) break;
  }
  return Buffer.concat(chunks).toString("utf8");
}

const CONNECT_TIMEOUT_MS = 10_000;
/** A registry puts a large layer together, and checks it, before it answers. */
const ANSWER_TIMEOUT_MS = 300_000;

interface TransportOptions {
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

const ATTEMPTS = 4;
const pauses = { baseMs: 500, capMs: 30_000 };
/** Nobody waits together with us. */
const noSpread = () => 1;

/** As long as the registry wishes, else ever longer. */
export function pauseAfter(error: RegistryError, failures: number): number {
  return Math.min(pauses.capMs, error.retryAfterMs ?? backoffMs(failures, noSpread, pauses));
}

/** For what may be done twice. */
export async function withRetries<T>(
  { clock, signal }: { readonly clock: Clock; readonly signal?: AbortSignal | undefined },
  act: () => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await act();
    } catch (error) {
      if (!(error instanceof RegistryError) || !error.retryable || attempt >= ATTEMPTS) throw error;
      await clock.sleep(pauseAfter(error, attempt), signal);
    }
  }
}
