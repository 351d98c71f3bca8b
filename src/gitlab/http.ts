/** The connection to one GitLab: its requests, the certificates by which we trust it, and the one that we show to it. */
import type { IncomingHttpHeaders } from "node:http";
import type { LookupFunction } from "node:net";
import type { Readable } from "node:stream";
import type { SecureContext } from "node:tls";
import type { Dispatcher } from "undici";
import { describeError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { createProxiedAgent } from "../base/proxy/agent.ts";
import { directRoutes, type ProxyRoutes } from "../base/proxy/routes.ts";
import {
  certificatesIn,
  createFileBacked,
  MOST_AUTHORITIES_BYTES,
  readTlsPair,
  trustContext,
} from "../base/tls.ts";
import { readTrusted, UntrustedError } from "../base/trusted-file.ts";
import type { GitLabConfig } from "./config.ts";
import { GitLabError } from "./errors.ts";

const CONNECT_TIMEOUT_MS = 10_000;
const ANSWER_TIMEOUT_MS = 60_000;

export interface GitLabHttpOptions {
  /** GitLab's address, with its path if it has one. */
  readonly url: string;
  /** PEM of certificate authorities to trust besides those of Node and of the system. */
  readonly ca?: string;
  /** In place of `ca`: certificates that are renewed, and one of our own if GitLab asks for it. */
  readonly trust?: GitLabTrust;
  /** Through which proxies GitLab is reached; by default through none. */
  readonly proxies?: ProxyRoutes;
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

/** One connection pool to one GitLab. Redirects are answers like any other. */
export interface GitLabHttp {
  /** `https://gitlab.example.com:8443`, without a slash at the end. */
  readonly origin: string;
  /** `""`, or the path under which GitLab lives, such as `/gitlab`. */
  readonly basePath: string;
  /** For requests to this GitLab only: it trusts the configured authorities, and shows our certificate to whoever asks. */
  readonly dispatcher: Dispatcher;
  /** PEM of authorities to trust for other servers of this GitLab, which are shown no certificate of ours. */
  authorities(): readonly string[];
  /** Throws undici's errors as they are; `gitLabErrorFrom` converts them. The body of the answer must be read or dumped. */
  request(request: GitLabRequest): Promise<Dispatcher.ResponseData>;
  /** As `request`, for a request received from somebody else: headers of the hop are left out in both directions. */
  forward(request: GitLabRequest): Promise<Dispatcher.ResponseData>;
  /** Requests in flight fail: whoever wants their answers has waited for them. */
  close(): Promise<void>;
}

/** Throws GitLabError `gitlab_certificate` when `ca` is no certificate. */
export function createGitLabHttp(options: GitLabHttpOptions): GitLabHttp {
  const url = new URL(options.url);
  const origin = url.origin;
  const basePath = url.pathname.replace(/\/+$/, "");
  const dispatcher = createProxiedAgent({
    proxies: options.proxies ?? directRoutes,
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
    secureContext: options.trust?.context ?? lasting(options.ca),
    ...(options.lookup ? { lookup: options.lookup } : {}),
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

  const given = options.ca === undefined ? [] : [options.ca];
  return {
    ...{ origin, basePath, dispatcher, request, forward },
    authorities: () => options.trust?.authorities ?? given,
    // What GitLab holds open is not waited for: whoever may wait has done so.
    close: () => dispatcher.destroy(),
  };
}

/** Made when it is first needed, which for http it never is, and once. */
function lasting(ca: string | undefined): () => SecureContext {
  if (ca !== undefined) checkAuthorities(ca, "gitlab.caFile");
  let made: SecureContext | undefined;
  return () => {
    made ??= trustContext([ca]);
    return made;
  };
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

/**
 * GitLab's HTTP as configured: its authorities, the certificate shown to it, and the proxy that leads there. Throws GitLabError when a file
 * cannot be used.
 */
export async function connectGitLab(
  { gitlab, proxy }: { readonly gitlab: GitLabConfig; readonly proxy: ProxyRoutes },
  log?: Log,
): Promise<GitLabHttp> {
  const { url, ...files } = gitlab;
  const trust = await readGitLabTrust({ files, ca: proxy.ca, log });
  return createGitLabHttp({ url, trust, proxies: proxy });
}

/** Files of `gitlab` in the configuration. The certificate and its key come together. */
export interface GitLabFiles {
  readonly caFile?: string | undefined;
  readonly clientCertificateFile?: string | undefined;
  readonly clientKeyFile?: string | undefined;
}

/** Whom we trust to be GitLab, and what we show to it. */
interface GitLabTrust {
  /** As of the files' last good state. Each call looks whether they have changed, for the next call. */
  context(): SecureContext;
  /** The authorities alone: for other servers of GitLab's, to which we show nothing. */
  readonly authorities: readonly string[];
}

interface GitLabTrustOptions {
  readonly files: GitLabFiles;
  /** PEM of further authorities. */
  readonly ca?: string | undefined;
  readonly log?: Pick<Log, "info" | "warn"> | undefined;
}

/** Throws GitLabError `gitlab_certificate` or `gitlab_client_certificate` when a file cannot be used. */
export async function readGitLabTrust({ files, ca, log }: GitLabTrustOptions): Promise<GitLabTrust> {
  const paths = Object.values(files).filter((path) => path !== undefined);
  const kept = await createFileBacked({ paths: () => paths, read: () => read(files, ca) });
  let isRefreshing = false;

  async function refresh(): Promise<void> {
    const outcome = await kept.refresh();
    if (outcome === "renewed") log?.info({}, "certificates for GitLab have been read anew");
    if (typeof outcome === "string") return;
    const why = describeError(outcome.unusable);
    log?.warn({ why }, "new certificates for GitLab cannot be used; the old ones stay");
  }

  return {
    context() {
      if (!isRefreshing && paths.length > 0) {
        isRefreshing = true;
        void refresh().finally(() => {
          isRefreshing = false;
        });
      }
      return kept.value.context;
    },
    get authorities() {
      return kept.value.authorities;
    },
  };
}

async function read(files: GitLabFiles, ca: string | undefined) {
  const authorities = [
    ...(files.caFile === undefined ? [] : [await readAuthorities(files.caFile)]),
    ...(ca === undefined ? [] : [ca]),
  ];
  const { clientCertificateFile: certificateFile, clientKeyFile: keyFile } = files;
  const own =
    certificateFile !== undefined && keyFile !== undefined
      ? await readTlsPair({ certificateFile, keyFile }, wrongPair)
      : undefined;
  return { authorities, context: trustContext(authorities, own) };
}

async function readAuthorities(path: string): Promise<string> {
  const read = await readTrusted(path, { maxBytes: MOST_AUTHORITIES_BYTES, secret: false }).catch(
    (cause: unknown) => {
      if (cause instanceof UntrustedError) throw cause;
      throw new GitLabError("gitlab_ca_unreadable", `reading the certificates in ${path} failed`, {
        cause,
        hint: "gitlab.caFile must name a PEM file that this user may read.",
      });
    },
  );
  return checkAuthorities(read.toString("utf8"), `gitlab.caFile (${path})`);
}

/** The certificates in the text and nothing else of it. Throws GitLabError `gitlab_certificate` when there is none. */
function checkAuthorities(pem: string, where: string): string {
  try {
    return certificatesIn(pem)
      .map((each) => each.toString())
      .join("");
  } catch (cause) {
    throw new GitLabError("gitlab_certificate", `reading ${where}: ${describeError(cause)}`, {
      cause,
      hint: "give a file with certificates in PEM form (-----BEGIN CERTIFICATE-----)",
    });
  }
}

function wrongPair(message: string, options: ErrorOptions & { hint?: string } = {}): GitLabError {
  return new GitLabError("gitlab_client_certificate", message, {
    hint: "gitlab.clientCertificateFile names a PEM file with the certificate and its chain, gitlab.clientKeyFile one with its private key.",
    ...options,
  });
}
