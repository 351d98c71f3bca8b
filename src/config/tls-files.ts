import type { HttpConfig } from "../http/config.ts";
import type { PathProblem } from "./problems.ts";
import { type FileOptions, modeProblem, type ReadFile, readNamedFile } from "./secret-file.ts";

type Holds = "CERTIFICATE" | "PRIVATE KEY";

/** The TLS settings with the places at which their files were found, and what is wrong with these. */
export async function findTlsFiles(
  http: HttpConfig,
  options: FileOptions,
): Promise<{ http: HttpConfig; problems: readonly PathProblem[] }> {
  const problems: PathProblem[] = [];
  if (http.tls === undefined) return { http, problems };
  const tls = {
    certificateFile: await find("certificateFile", http.tls.certificateFile, "CERTIFICATE"),
    keyFile: await find("keyFile", http.tls.keyFile, "PRIVATE KEY"),
  };
  return { http: { ...http, tls }, problems };

  async function find(key: string, path: string, holds: Holds): Promise<string> {
    const found = await readNamedFile(path, options);
    const problem = "problem" in found ? found.problem : problemOfPem(found.value, holds);
    if (problem) problems.push({ path: ["http", "tls", key], message: problem });
    return "value" in found ? found.value.place : path;
  }
}

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
export function problemOfPem(
  file: { text: string; mode: number; place: string },
  holds: Holds,
): string | undefined {
  if (!new RegExp(`-----BEGIN [A-Z0-9 ]*${holds}-----`).test(file.text)) {
    return `${file.place} is no PEM file with a ${holds.toLowerCase()}`;
  }
  return file.text.includes("PRIVATE KEY-----") ? modeProblem(file.place, file.mode) : undefined;
}
