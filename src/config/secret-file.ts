import { open } from "node:fs/promises";
import { dirname, isAbsolute, join } from "node:path";
import { systemCode } from "../base/errors.ts";
import { Secret } from "../base/secret.ts";

const MAX_FILE_BYTES = 1024 ** 2;
const OTHERS_READ = 0o004;
const OTHERS_WRITE = 0o022;

/** Reads a file whole. `mode` is the permission bits. */
export type ReadFile = (path: string) => Promise<{ readonly text: string; readonly mode: number }>;

export const readLocalFile: ReadFile = async (path) => {
  await using file = await open(path, "r");
  const { mode, size } = await file.stat();
  // Opening a directory or a device works; reading a huge one must not.
  if (size > MAX_FILE_BYTES) throw Object.assign(new Error("larger than 1 MiB"), { code: "EFBIG" });
  return { text: await file.readFile("utf8"), mode: mode & 0o777 };
};

export type TokenAnswer = { readonly token: Secret } | { readonly problem: string };

export interface TokenFileOptions {
  readonly readFile: ReadFile;
  /** The configuration file; relative names are looked up beside it. */
  readonly besideFile: string | undefined;
  /** systemd's $CREDENTIALS_DIRECTORY, where a relative name is looked up first. */
  readonly credentialsDirectory: string | undefined;
}

/** Reads a runner token from a file, or says what is wrong with the file and what to do. */
export async function readTokenFile(path: string, options: TokenFileOptions): Promise<TokenAnswer> {
  const candidates = candidatesOf(path, options);
  for (const [index, candidate] of candidates.entries()) {
    try {
      const { text, mode } = await options.readFile(candidate);
      const problem = modeProblem(candidate, mode);
      return problem ? { problem } : checkToken(text.trim(), candidate);
    } catch (error) {
      const isLast = index === candidates.length - 1;
      if (isLast || systemCode(error) !== "ENOENT") return { problem: unreadable(candidate, error) };
    }
  }
  return { problem: `${path} cannot be read` };
}

/** Judges a token by its form alone. `where` names its place, never its text. */
export function checkToken(text: string, where: string): TokenAnswer {
  if (text === "")
    return { problem: `${where} is empty: put the runner's authentication token (glrt-…) into it` };
  if (!/^[\x21-\x7e]+$/.test(text)) {
    return { problem: `${where} holds more than a token: it must be one line without spaces` };
  }
  const other = [...otherTokens].find(([prefix]) => text.startsWith(prefix));
  if (other) {
    return {
      problem: `${where} holds ${other[1]}: create a runner in GitLab (Settings → CI/CD → Runners) and use its authentication token (glrt-…)`,
    };
  }
  return { token: new Secret(text) };
}

/** What people paste by mistake. */
const otherTokens: ReadonlyMap<string, string> = new Map([
  ["glpat-", "a personal access token"],
  ["gldt-", "a deploy token"],
  ["glptt-", "a pipeline trigger token"],
  ["GR1348941", "a runner registration token"],
]);

/** Why a file with a secret in it may not have these permissions; undefined when it may. */
export function modeProblem(path: string, mode: number): string | undefined {
  if ((mode & OTHERS_READ) !== 0) {
    return `${path} holds a secret and everyone on this computer may read it: chmod 600 ${path}`;
  }
  if ((mode & OTHERS_WRITE) !== 0) {
    return `${path} holds a secret and others than its owner may change it: chmod 600 ${path}`;
  }
  return undefined;
}

function candidatesOf(path: string, options: TokenFileOptions): string[] {
  if (isAbsolute(path)) return [path];
  const beside = join(options.besideFile ? dirname(options.besideFile) : ".", path);
  return options.credentialsDirectory ? [join(options.credentialsDirectory, path), beside] : [beside];
}

/** A failed read in words. Also for the configuration file itself. */
export function unreadable(path: string, error: unknown): string {
  switch (systemCode(error)) {
    case "ENOENT":
      return `${path} does not exist: create it, or correct the path`;
    case "EACCES":
    case "EPERM":
      return `${path} may not be read by this user: make it (or a directory above it) readable, or run as its owner`;
    case "EISDIR":
      return `${path} is a directory: name a file in it`;
    default:
      return `${path} cannot be read (${systemCode(error) ?? String(error)})`;
  }
}
