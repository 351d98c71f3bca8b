/**
 * Requests to one bucket of an S3-compatible server: signed with the operator's keys, which are here and in no machine, and with every
 * failure as a CacheError. Bodies are streams, and signed without their content (UNSIGNED-PAYLOAD): by TLS nobody on the way changes them.
 */
import type { Readable } from "node:stream";
import { AwsV4Signer } from "aws4fetch";
import type { Dispatcher } from "undici";
import type { Clock } from "../base/clock.ts";
import { describeError } from "../base/errors.ts";
import { createProxiedAgent } from "../base/proxy/agent.ts";
import type { ProxyRoutes } from "../base/proxy/routes.ts";
import { readBounded } from "../base/read-bounded.ts";
import { oneLine } from "../base/text.ts";
import { trustContext } from "../base/tls.ts";
import { MINUTE_MS } from "../base/units.ts";
import type { S3Access, S3Settings } from "./config.ts";
import { CacheError } from "./errors.ts";

const CONNECT_TIMEOUT_MS = 10_000;
/** A server writes a large object to several places before it answers. */
const ANSWER_TIMEOUT_MS = 5 * MINUTE_MS;
/** Of an error. Lists have up to a thousand names. */
const LONGEST_ERROR_BYTES = 64 * 1024;
const LONGEST_WORDS = 300;

interface S3Request {
  readonly method: "GET" | "HEAD" | "PUT" | "DELETE";
  /** Of the object; without it the bucket itself is meant. Letters, digits, `.`, `_`, `-` and `/` only. */
  readonly name?: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: { readonly bytes: number; readonly stream: Readable };
  readonly signal: AbortSignal;
  /** What is being done, for errors: “reading a cache”. */
  readonly doing: string;
}

export interface S3Client {
  /** Any answer of success, whose body must be read or destroyed; undefined for 404 of an object. Throws CacheError. */
  send(request: S3Request): Promise<Dispatcher.ResponseData | undefined>;
  close(): Promise<void>;
}

export interface S3ClientOptions {
  readonly settings: Pick<S3Settings, "endpoint" | "bucket" | "region">;
  readonly access: S3Access;
  readonly proxies: ProxyRoutes;
  readonly clock: Clock;
}

export function createS3Client({ settings, access, proxies, clock }: S3ClientOptions): S3Client {
  const { endpoint, bucket, region } = settings;
  const secureContext = trustContext([access.ca, proxies.ca]);
  const dispatcher = createProxiedAgent({
    proxies,
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
    secureContext: () => secureContext,
    headersTimeoutMs: ANSWER_TIMEOUT_MS,
    bodyTimeoutMs: ANSWER_TIMEOUT_MS,
  });
  /** Keys of a day are made once. */
  const derivedKeys = new Map<string, ArrayBuffer>();

  async function signed({ method, name, query, headers }: S3Request) {
    const url = new URL(`/${bucket}${name === undefined ? "" : `/${name}`}`, endpoint);
    for (const [key, value] of Object.entries(query ?? {})) url.searchParams.set(key, value);
    // One day's keys are enough: those of days before are never asked for again.
    if (derivedKeys.size > 1) derivedKeys.clear();
    const signer = new AwsV4Signer({
      ...{ method, region, service: "s3", url: url.href, cache: derivedKeys },
      ...{ accessKeyId: access.accessKey.reveal(), secretAccessKey: access.secretKey.reveal() },
      headers: { ...headers },
      datetime: new Date(clock.now()).toISOString().replaceAll(/[:-]|\.\d{3}/g, ""),
    });
    const { url: to, headers: withSignature } = await signer.sign();
    return { origin: to.origin, path: to.pathname + to.search, headers: Object.fromEntries(withSignature) };
  }

  async function exchange(request: S3Request): Promise<Dispatcher.ResponseData> {
    const { method, body, signal, doing } = request;
    const { origin, path, headers } = await signed(request);
    try {
      const answer = await dispatcher.request({
        ...{ origin, path, method, signal },
        headers: { ...headers, ...(body ? { "content-length": String(body.bytes) } : {}) },
        body: body?.stream ?? null,
        // The answer to an upload comes when all of it has been sent, however long that takes: whoever sends it watches that.
        ...(body ? { headersTimeout: 0 } : {}),
      });
      // One that is left unread ends with an error, which is nobody's.
      answer.body.on("error", () => {});
      return answer;
    } catch (cause) {
      signal.throwIfAborted();
      throw new CacheError("cache_server_unavailable", `${doing} at ${endpoint}: ${describeError(cause)}`, {
        cause,
        hint: "check cache.s3.endpoint, the server, and the way to it (proxy, caFile)",
        retryable: true,
      });
    }
  }

  return {
    async send(request) {
      const answer = await exchange(request);
      const { statusCode, body } = answer;
      if (statusCode >= 200 && statusCode < 300) return answer;
      const { bytes } = await readBounded(body, LONGEST_ERROR_BYTES);
      const words = wordsOf(bytes.toString("utf8"));
      if (statusCode === 404 && request.name !== undefined && !words.includes("NoSuchBucket"))
        return undefined;
      throw refusalOf(statusCode, words, request.doing, settings);
    },
    close: () => dispatcher.destroy(),
  };
}

/** The code and the message of an error in XML, as far as there are any. */
function wordsOf(xml: string): string {
  const part = (name: string) => new RegExp(`<${name}>([^<]{1,${LONGEST_WORDS}})</${name}>`).exec(xml)?.[1];
  return oneLine([part("Code"), part("Message")].filter((each) => each !== undefined).join(": "));
}

function refusalOf(
  status: number,
  words: string,
  doing: string,
  { endpoint, bucket }: Pick<S3Settings, "endpoint" | "bucket">,
): CacheError {
  const said = `${doing} in ${bucket} at ${endpoint}: the server answered ${status}${words === "" ? "" : ` (${words})`}`;
  // 501 and the like are not mended by patience.
  const isLater = status === 429 || status === 500 || status === 502 || status === 503 || status === 504;
  return isLater
    ? new CacheError("cache_server_unavailable", said, { retryable: true })
    : new CacheError("cache_server_refused", said, {
        hint: "check cache.s3: bucket and region, and whether the keys may read, write, list and delete there",
      });
}
