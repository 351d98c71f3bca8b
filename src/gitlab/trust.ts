import type { SecureContext } from "node:tls";
import { describeError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import {
  certificatesIn,
  createFileBacked,
  MOST_AUTHORITIES_BYTES,
  readTlsPair,
  trustContext,
} from "../base/tls.ts";
import { readTrusted, UntrustedError } from "../base/trusted-file.ts";
import { GitLabError } from "./errors.ts";

/** Files of `gitlab` in the configuration. The certificate and its key come together. */
export interface GitLabFiles {
  readonly caFile?: string | undefined;
  readonly clientCertificateFile?: string | undefined;
  readonly clientKeyFile?: string | undefined;
}

/** Whom we trust to be GitLab, and what we show to it. */
export interface GitLabTrust {
  /** As of the files' last good state. Each call looks whether they have changed, for the next call. */
  context(): SecureContext;
  /** The authorities alone: for other servers of GitLab's, to which we show nothing. */
  readonly authorities: readonly string[];
}

export interface GitLabTrustOptions {
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
export function checkAuthorities(pem: string, where: string): string {
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
