import { X509Certificate } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import type { LookupFunction } from "node:net";
import type { Readable } from "node:stream";
import { createSecureContext, getCACertificates, type SecureContext } from "node:tls";
import { Agent, type Dispatcher } from "undici";
import { GitLabError } from "./errors.ts";

const CONNECT_TIMEOUT_MS = 10_000;
/** Below the idle limits of GitLab's own servers, so that a request is not sent into a connection that is being closed. */
const KEEP_ALIVE_MS = 10_000;
const ANSWER_TIMEOUT_MS = 60_000;

export interface GitLabHttpOptions {
  /** GitLab's address, with its path if it has one. */
  readonly url: string;
  /** PEM of certificate authorities to trust besides those of Node and of the system. */
  readonly ca?: string;
  /** Replaces the system's name resolution. */
  readonly lookup?: LookupFunction;
}

export interface GitLabRequest {
  readonly method: Dispatcher.HttpMethod;
  /** Below GitLab's own address: `/api/v4/…`, `/group/project.git/…`, with the query. */
  readonly path: string;
  readonly headers?: IncomingHttpHeaders;
  readonly body?: string | Uint8Array | Readable;
  readonly signal?: AbortSignal;
  /** Longest silence before the answer's head. Default 60 s; 0 for none. */
  readonly headersTimeoutMs?: number;
  /** Longest silence within the answer's body. Default 60 s; 0 for none. */
  readonly bodyTimeoutMs?: number;
}

/** One connection pool to one GitLab. Redirects are answers like any other; proxies of the environment are not used. */
export interface GitLabHttp {
  /** `https://gitlab.example.com:8443`, without a slash at the end. */
  readonly origin: string;
  /** `""`, or the path under which GitLab lives, such as `/gitlab`. */
  readonly basePath: string;
  /** For requests to this GitLab only: it trusts the configured certificate authorities. */
  readonly dispatcher: Dispatcher;
  /** Throws undici's errors as they are; `gitLabErrorFrom` converts them. The body of the answer must be read or dumped. */
  request(request: GitLabRequest): Promise<Dispatcher.ResponseData>;
  /** As `request`, for a request received from somebody else: headers of the hop are left out on both ways. */
  forward(request: GitLabRequest): Promise<Dispatcher.ResponseData>;
  /** Waits for requests in flight. */
  close(): Promise<void>;
}

/** Throws GitLabError `gitlab_certificate` when `ca` is no certificate. */
export function createGitLabHttp(options: GitLabHttpOptions): GitLabHttp {
  const url = new URL(options.url);
  const origin = url.origin;
  const basePath = url.pathname.replace(/\/+$/, "");
  const dispatcher = new Agent({
    // One request per connection at a time: a long poll must not stand in front of a trace.
    pipelining: 1,
    allowH2: false,
    keepAliveTimeout: KEEP_ALIVE_MS,
    connect: {
      timeout: CONNECT_TIMEOUT_MS,
      ...(url.protocol === "https:" ? { secureContext: trust(options.ca) } : {}),
      ...(options.lookup ? { lookup: options.lookup } : {}),
    },
  });

  function request(wanted: GitLabRequest): Promise<Dispatcher.ResponseData> {
    return dispatcher.request({
      origin,
      method: wanted.method,
      path: basePath + wanted.path,
      headersTimeout: wanted.headersTimeoutMs ?? ANSWER_TIMEOUT_MS,
      bodyTimeout: wanted.bodyTimeoutMs ?? ANSWER_TIMEOUT_MS,
      ...(wanted.headers ? { headers: wanted.headers } : {}),
      ...(wanted.body === undefined ? {} : { body: asBody(wanted.body) }),
      ...(wanted.signal ? { signal: wanted.signal } : {}),
    });
  }

  async function forward(wanted: GitLabRequest): Promise<Dispatcher.ResponseData> {
    const { host: _host, expect: _expect, ...headers } = endToEndHeaders(wanted.headers ?? {});
    const answer = await request({ ...wanted, headers });
    return { ...answer, headers: endToEndHeaders(answer.headers) };
  }

  return { origin, basePath, dispatcher, request, forward, close: () => dispatcher.close() };
}

/** Made once: reading hundreds of certificates for every connection would cost more than the requests. */
function trust(ca: string | undefined): SecureContext {
  const known = new Set([...getCACertificates("default"), ...getCACertificates("system")]);
  if (ca !== undefined) known.add(checkedCertificate(ca));
  return createSecureContext({ ca: [...known] });
}

/** TLS ignores what it cannot read, and every connection would fail later with no hint at the file. */
function checkedCertificate(pem: string): string {
  try {
    new X509Certificate(pem);
    return pem;
  } catch (cause) {
    throw new GitLabError("gitlab_certificate", "reading gitlab.caFile: it does not hold a certificate", {
      cause,
      hint: "give a file with certificates in PEM form (-----BEGIN CERTIFICATE-----)",
    });
  }
}

function asBody(body: string | Uint8Array | Readable): string | Buffer | Readable {
  if (!(body instanceof Uint8Array)) return body;
  return Buffer.from(body.buffer, body.byteOffset, body.byteLength);
}

const hopHeaders: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

/** Headers that belong to the message and not to one connection (RFC 9110, 7.6.1). Names are in lower case. */
export function endToEndHeaders(headers: IncomingHttpHeaders): IncomingHttpHeaders {
  const named = new Set((headers.connection ?? "").split(",").map((name) => name.trim().toLowerCase()));
  return Object.fromEntries(
    Object.entries(headers).filter(([name]) => !hopHeaders.has(name) && !named.has(name)),
  );
}
