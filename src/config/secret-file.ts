import { dirname, isAbsolute, join } from "node:path";
import { systemCode } from "../base/errors.ts";
import { changeableBy, openTrusted, ourselves, readableBy, UntrustedError } from "../base/trusted-file.ts";
import { MIB_BYTES } from "../base/units.ts";

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

export interface FileOptions {
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
