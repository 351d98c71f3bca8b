import { authoritiesProblem } from "./authorities.ts";
import type { PathProblem } from "./problems.ts";
import { type FileOptions, type FileText, modeProblem, type ReadFile, readNamedFile } from "./secret-file.ts";

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
