/**
 * Requests to one registry: over TLS or plain HTTP (`createTransport`), with the login it asks for, and with every failure as a
 * RegistryError (`createSession`). `withRetries` repeats those that may be repeated.
 */
import type { Readable } from "node:stream";
import type { SecureContext } from "node:tls";
import type { Dispatcher } from "undici";
import type { Clock } from "../base/clock.ts";
import { describeError } from "../base/errors.ts";
import { createProxiedAgent } from "../base/proxy/agent.ts";
import { directRoutes, type ProxyRoutes } from "../base/proxy/routes.ts";
import { backoffMs } from "../base/rates.ts";
import { certificatesIn, trustContext } from "../base/tls.ts";
import { createAuthorization, type LoginMemory, parseChallenge, type TokenRequest } from "./authorization.ts";
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

/** An answer whose body has not been read: it must be, or be destroyed. */
export interface OpenAnswer extends Omit<Answer, "text"> {
  readonly body: Readable;
}

export interface RegistrySession {
  readonly origin: string;
  /** Any answer but 401. */
  send(request: RegistryRequest): Promise<Answer>;
  /** As `send`, for an answer that may be long. */
  open(request: RegistryRequest): Promise<OpenAnswer>;
  close(): Promise<void>;
}

interface Deps {
  readonly transport: Transport;
  readonly credentials: () => Promise<Credentials | undefined>;
  readonly signal?: AbortSignal | undefined;
  /** Of earlier sessions with these credentials. */
  readonly memory?: LoginMemory | undefined;
}

export function createSession({ transport, credentials, signal, memory }: Deps): RegistrySession {
  const { origin } = transport;
  const authorization = createAuthorization({ origin, credentials, ask: askTokenService, memory });

  async function open(request: RegistryRequest): Promise<OpenAnswer> {
    const url = new URL(request.url, origin);
    // Uploads may be sent elsewhere, to addresses that carry their own permission. Our login is the registry's business alone.
    if (url.origin !== new URL(origin).origin) return await exchange(url, request);
    const first = await exchangeWithLogin(url, request);
    if (first.status !== 401) return first;
    await toEnd(first, url, request.doing);
    await authorization.learn(parseChallenge(first.header("www-authenticate")), request.scopes);
    const second = await exchangeWithLogin(url, request);
    if (second.status !== 401) return second;
    throw refusal(await toEnd(second, url, request.doing), origin, request.doing);
  }

  async function exchangeWithLogin(url: URL, request: RegistryRequest): Promise<OpenAnswer> {
    const login = await authorization.header(request.scopes);
    return await exchange(url, {
      ...request,
      headers: { ...request.headers, ...(login ? { authorization: login } : {}) },
    });
  }

  async function exchange(url: URL, request: Omit<RegistryRequest, "url" | "scopes">): Promise<OpenAnswer> {
    const { method, headers = {}, body, doing } = request;
    try {
      const response = await transport.request({
        origin: url.origin,
        path: url.pathname + url.search,
        method,
        headers: { "user-agent": "firerunner", ...headers },
        body: body?.() ?? null,
        signal: signal ?? null,
      });
      // One that is left unread ends with an error, which is nobody's.
      response.body.on("error", () => {});
      const header = (name: string) => [response.headers[name] ?? []].flat().join(", ") || undefined;
      return { status: response.statusCode, header, body: response.body };
    } catch (cause) {
      signal?.throwIfAborted();
      throw registryErrorFrom(cause, url.origin, doing);
    }
  }

  async function toEnd({ body, ...rest }: OpenAnswer, url: URL, doing: string): Promise<Answer> {
    try {
      return { ...rest, text: await beginningOf(body) };
    } catch (cause) {
      signal?.throwIfAborted();
      throw registryErrorFrom(cause, url.origin, doing);
    }
  }

  async function askTokenService({ url, authorization: login, form }: TokenRequest): Promise<Answer> {
    const doing = `asking for a token for ${origin}`;
    const answer = await exchange(url, {
      method: form ? "POST" : "GET",
      headers: {
        ...(login ? { authorization: login } : {}),
        ...(form ? { "content-type": "application/x-www-form-urlencoded" } : {}),
      },
      ...(form ? { body: () => Buffer.from(form.toString()) } : {}),
      doing,
    });
    return await toEnd(answer, url, doing);
  }

  async function send(request: RegistryRequest): Promise<Answer> {
    return await toEnd(await open(request), new URL(request.url, origin), request.doing);
  }

  return { origin, open, send, close: transport.close };
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

/** The way to one registry, and to where it leads. */
export interface Transport {
  readonly origin: string;
  request(wanted: TransportRequest): Promise<Dispatcher.ResponseData>;
  close(): Promise<void>;
}

type TransportRequest = Dispatcher.RequestOptions & { readonly origin: string };

/** Throws `registry_tls` when `ca` holds no certificate. */
export function createTransport({
  registry,
  plainHttp,
  ca,
  proxies = directRoutes,
}: TransportOptions): Transport {
  const isPlain = plainHttp ?? (isLocalRegistry(registry) && ca === undefined);
  if (ca !== undefined) checkAuthorities(ca);
  let secureContext: SecureContext | undefined;
  const dispatcher = createProxiedAgent({
    proxies,
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
    // Only where there is TLS: it takes long to make.
    secureContext: () => (secureContext ??= trustContext([ca, proxies.ca])),
    headersTimeoutMs: ANSWER_TIMEOUT_MS,
    bodyTimeoutMs: ANSWER_TIMEOUT_MS,
  });
  return {
    origin: `${isPlain ? "http" : "https"}://${registry}`,
    request: (wanted) => dispatcher.request(wanted),
    close: () => dispatcher.destroy(),
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

/** Where nothing says how long it is worth the while. */
const ATTEMPTS = 4;
const pauses = { baseMs: 500, capMs: 30_000 };
/** Nobody waits together with us. */
const noSpread = () => 1;

/** As long as the registry wishes, else ever longer. */
export function pauseAfter(error: RegistryError, failures: number): number {
  return Math.min(pauses.capMs, error.retryAfterMs ?? backoffMs(failures, noSpread, pauses));
}

interface Retrying {
  readonly clock: Clock;
  readonly signal?: AbortSignal | undefined;
  /** By default four. */
  readonly attempts?: number;
  /** No pause goes on beyond this time. */
  readonly untilMs?: number;
  /** Told of each failure that is waited for and tried again. */
  readonly onRetry?: ((error: RegistryError) => void) | undefined;
}

/** For what may be done twice. */
export async function withRetries<T>(retrying: Retrying, act: () => Promise<T>): Promise<T> {
  const { clock, signal, attempts = ATTEMPTS, untilMs = Number.POSITIVE_INFINITY } = retrying;
  for (let attempt = 1; ; attempt++) {
    try {
      return await act();
    } catch (error) {
      if (!(error instanceof RegistryError) || !error.retryable || attempt >= attempts) throw error;
      const pauseMs = pauseAfter(error, attempt);
      if (clock.now() + pauseMs >= untilMs) throw error;
      retrying.onRetry?.(error);
      await clock.sleep(pauseMs, signal);
    }
  }
}
