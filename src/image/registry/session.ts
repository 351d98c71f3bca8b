/** Requests to one registry: with the login it asks for, and with every failure as one of ours. */

import type { Readable } from "node:stream";
import type { Dispatcher } from "undici";
import { createAuthorization, type TokenRequest } from "./authorization.ts";
import { parseChallenge } from "./challenge.ts";
import type { Credentials } from "./credential-helper.ts";
import { type Answer, refusal, registryErrorFrom } from "./failure.ts";
import type { Transport } from "./transport.ts";

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
