import { dirname, isAbsolute, join } from "node:path";
import { describeError, systemCode } from "../base/errors.ts";
import { certificatesIn } from "../base/tls.ts";
import { changeableBy, openTrusted, ourselves, readableBy, UntrustedError } from "../base/trusted-file.ts";
import { MIB_BYTES } from "../base/units.ts";
import type { PathProblem } from "./problems.ts";
import type { Path } from "./source.ts";

const MAX_FILE_BYTES = MIB_BYTES;
const ROOT_GROUP = 0;

/** A file's text with its permission bits and its group; without one, root's. */
export interface FileText {
  readonly text: string;
  readonly mode: number;
  readonly gid?: number;
}

/** Reads a file whole. */
export type ReadFile = (path: string) => Promise<FileText>;

/** Throws UntrustedError for a file that others can change: what it says decides what runs here. */
export const readLocalFile: ReadFile = async (path) => {
  await using file = await openTrusted(path);
  const { mode, gid, size } = file.status;
  if (size > MAX_FILE_BYTES) throw Object.assign(new Error("larger than 1 MiB"), { code: "EFBIG" });
  return { text: await file.handle.readFile("utf8"), mode: mode & 0o777, gid };
};

/** What is made of a text, or what is wrong with it and what to do. Names its place, never its text. */
export type Checked<T> = { readonly value: T } | { readonly problem: string };
/** Judges a secret by its form alone. `where` names its place. */
export type Check<T> = (text: string, where: string) => Checked<T>;

interface FileOptions {
  readonly readFile: ReadFile;
  /** The configuration file; relative names are looked up beside it. */
  readonly besideFile: string | undefined;
  /** systemd's $CREDENTIALS_DIRECTORY, where a relative name is looked up first. */
  readonly credentialsDirectory: string | undefined;
}

/** Reads a secret from a file, or says what is wrong with the file and what to do. */
export async function readSecretFile<T>(
  path: string,
  check: Check<T>,
  options: FileOptions,
): Promise<Checked<T>> {
  const found = await readNamedFile(path, options);
  if ("problem" in found) return found;
  const { text, place } = found.value;
  const problem = modeProblem(place, found.value);
  return problem ? { problem } : check(text.trim(), place);
}

/** Reads a file that the configuration names. `place` is where it was found. */
export async function readNamedFile(
  path: string,
  options: FileOptions,
): Promise<Checked<FileText & { readonly place: string }>> {
  const candidates = candidatesOf(path, options);
  for (const [index, place] of candidates.entries()) {
    try {
      return { value: { ...(await options.readFile(place)), place } };
    } catch (error) {
      const isLast = index === candidates.length - 1;
      if (isLast || systemCode(error) !== "ENOENT") return { problem: unreadable(place, error) };
    }
  }
  return { problem: `${path} cannot be read` };
}

/** Why a file with a secret in it may not have these permissions; undefined when it may. */
export function modeProblem(
  path: string,
  { mode, gid = ROOT_GROUP }: Pick<FileText, "mode" | "gid">,
): string | undefined {
  const us = ourselves();
  const distrust = changeableBy(path, { uid: us.uid, mode, gid }, us) ?? readableBy(path, { mode, gid }, us);
  return distrust && `${distrust.problem}: ${distrust.remedy}`;
}

function candidatesOf(path: string, options: FileOptions): string[] {
  if (isAbsolute(path)) return [path];
  const beside = join(options.besideFile ? dirname(options.besideFile) : ".", path);
  return options.credentialsDirectory ? [join(options.credentialsDirectory, path), beside] : [beside];
}

/** A failed read in words. Also for the configuration file itself. */
export function unreadable(path: string, error: unknown): string {
  if (error instanceof UntrustedError) return `${error.message}: ${error.remedy}`;
  switch (systemCode(error)) {
    case "ENOENT":
      return `${path} does not exist: create it, or correct the path`;
    case "EACCES":
    case "EPERM":
      return `${path} may not be read by this user: make it (or a directory above it) readable, or run as its owner`;
    case "EISDIR":
      return `${path} is a directory: name a file in it`;
    case "EINVAL":
      return `${path} is no plain file: name one`;
    case "ELOOP":
      return `${path} is a link that leads in circles: correct it`;
    default:
      return `${path} cannot be read (${systemCode(error) ?? String(error)})`;
  }
}

export interface SecretOptions extends FileOptions {
  /** Why a secret may not stand where it stands; undefined when it may. */
  readonly inlineProblem: (path: Path) => string | undefined;
}

/** A secret of the configuration: the key that holds it, or the key with `File` after it that names a file. */
interface SecretPlace<Key extends string> {
  readonly at: readonly string[];
  readonly key: Key;
  readonly from: Readonly<Partial<Record<Key | `${Key}File`, string | undefined>>>;
}

/** Reads a secret that is given one way or the other. */
export async function readSecret<T, Key extends string>(
  { at, key, from }: SecretPlace<Key>,
  check: Check<T>,
  options: SecretOptions,
): Promise<Checked<T>> {
  const inline = from[key];
  if (inline === undefined) return await readSecretFile(from[`${key}File`] ?? "", check, options);
  const path = [...at, key];
  const problem = options.inlineProblem(path);
  return problem ? { problem } : check(inline.trim(), path.join("."));
}

type Holds = "CERTIFICATE" | "PRIVATE KEY";

/** What each file must hold. */
const contents = {
  certificateFile: "CERTIFICATE",
  keyFile: "PRIVATE KEY",
  clientCertificateFile: "CERTIFICATE",
  clientKeyFile: "PRIVATE KEY",
  caFile: "CERTIFICATE",
} as const;

/** The files of a section, `at` its path, with the places at which they were found, and what is wrong with them. */
export async function findTlsFiles<
  Files extends Readonly<Partial<Record<keyof typeof contents, string | undefined>>>,
>(
  at: readonly string[],
  files: Files,
  options: FileOptions,
): Promise<{ files: Files; problems: readonly PathProblem[] }> {
  const problems: PathProblem[] = [];
  const places: Record<string, string> = {};
  for (const [key, path] of Object.entries(files)) {
    if (path === undefined) continue;
    const found = await readNamedFile(path, options);
    const judge = at.at(-1) !== "tls" && key === "caFile" ? authoritiesProblem : problemOf(key);
    const problem = "problem" in found ? found.problem : judge(found.value);
    if (problem) problems.push({ path: [...at, key], message: problem });
    places[key] = "value" in found ? found.value.place : path;
  }
  return { files: { ...files, ...places }, problems };
}

const problemOf = (key: string) => (file: Parameters<typeof problemOfPem>[0]) =>
  problemOfPem(file, contents[key as keyof typeof contents]);

/** What is wrong with one file, in words; undefined when it can be used. */
export async function tlsFileProblem(
  path: string,
  holds: Holds,
  readFile: ReadFile,
): Promise<string | undefined> {
  const found = await readNamedFile(path, {
    readFile,
    besideFile: undefined,
    credentialsDirectory: undefined,
  });
  return "problem" in found ? found.problem : problemOfPem(found.value, holds);
}

/** Only whether it is the right kind of file: who uses it judges the rest. */
export function problemOfPem(file: FileText & { readonly place: string }, holds: Holds): string | undefined {
  if (!new RegExp(`-----BEGIN [A-Z0-9 ]*${holds}-----`).test(file.text)) {
    return `${file.place} is no PEM file with a ${holds.toLowerCase()}`;
  }
  return file.text.includes("PRIVATE KEY-----") ? modeProblem(file.place, file) : undefined;
}

/** What is wrong with a file of certificate authorities, in words; undefined when it can be used. */
export function authoritiesProblem({ text, place }: { readonly text: string; readonly place: string }) {
  if (text.includes("PRIVATE KEY-----")) {
    return `${place} holds a private key: name a file with the authorities' certificates alone`;
  }
  try {
    certificatesIn(text);
    return undefined;
  } catch (error) {
    return `${place} cannot be used: ${describeError(error)}`;
  }
}

/** A file of authorities, as far as one is named. */
export async function readAuthority(
  path: readonly string[],
  file: string | undefined,
  options: SecretOptions,
): Promise<{ readonly text: string | undefined } | { readonly problem: PathProblem }> {
  if (file === undefined) return { text: undefined };
  const found = await readNamedFile(file, options);
  const message = "problem" in found ? found.problem : authoritiesProblem(found.value);
  if (message !== undefined) return { problem: { path, message } };
  return { text: "value" in found ? found.value.text : undefined };
}
