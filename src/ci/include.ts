/** Puts the files together that `include: local` names; other includes are on servers, and left out by name. */
import type { Notice } from "./definition.ts";
import {
  type CiDocument,
  type CiFile,
  type Hash,
  isHash,
  mergeDeep,
  parseCiFile,
  type Value,
} from "./document.ts";
import { CiFileError, MAIN_FILE, type Place } from "./errors.ts";
import { anyMatches } from "./globs.ts";
import { withInputs } from "./inputs.ts";
import { Variables } from "./keywords.ts";
import { expand, type Push } from "./push.ts";
import { fittingRule, listOf } from "./rules.ts";

/** GitLab's own limit. */
const MOST_INCLUDES = 150;

/** The text of a file of the commit; undefined when there is none of that name. */
export type ReadFile = (path: string) => Promise<string | undefined>;

export interface Assembled extends CiDocument {
  /** Includes that were left out, so that jobs may lack parts. */
  readonly leftOut: readonly string[];
  readonly notices: readonly Notice[];
}

interface Assembly {
  readonly push: Push;
  readonly readFile: ReadFile;
  /** In the order of their merging: what comes later counts. */
  readonly files: CiDocument[];
  readonly leftOut: string[];
  readonly notices: Notice[];
  includes: number;
}

/** Throws CiFileError for a file that GitLab would refuse, be it the main file or an included one. */
export async function assemble(text: string, push: Push, readFile: ReadFile): Promise<Assembled> {
  const assembly: Assembly = { push, readFile, files: [], leftOut: [], notices: [], includes: 0 };
  const root = await assembleFile(parseCiFile(text), {}, assembly);
  const { files, leftOut, notices } = assembly;
  return { ...merged(root, files), leftOut, notices };
}

/** One file alone, whose includes are all left out. */
export function assembleAlone(text: string, push: Push): Assembled {
  const file = parseCiFile(text);
  const { include, ...root } = contentOf(file, {}, push);
  const leftOut = listOf(include).map(describeInclude);
  const place = file.placeOf("include");
  return { ...merged(root, [file]), leftOut, notices: leftOut.map((what) => notice(place, what)) };
}

function merged(root: Hash, files: readonly CiDocument[]): CiDocument {
  const depthOf = (path: readonly string[]) => Math.max(...files.map((file) => file.depthOf(path)));
  return {
    root,
    depthOf,
    placeOf(...path) {
      const depth = depthOf(path);
      const best = files.findLast((file) => file.depthOf(path) === depth);
      return best?.placeOf(...path) ?? { file: MAIN_FILE, line: 1 };
    },
  };
}

async function assembleFile(file: CiFile, inputs: Hash, assembly: Assembly): Promise<Hash> {
  const { include, ...own } = contentOf(file, inputs, assembly.push);
  let below: Hash = {};
  for (const entry of listOf(include)) {
    const place = file.placeOf("include");
    if (isHash(entry) && !isIncluded(entry, own, place, assembly)) continue;
    below = mergeDeep(below, await assembleEntry(entry, place, assembly));
  }
  assembly.files.push(file);
  return mergeDeep(below, own);
}

function contentOf(file: CiFile, given: Hash, { variables }: Push): Hash {
  if (!file.header) return file.root;
  const place = file.placeOf("spec");
  return withInputs(file.root, { spec: file.header["spec"], given, variables, place });
}

function isIncluded(entry: Hash, own: Hash, place: Place, { push }: Assembly): boolean {
  if (entry["rules"] === undefined) return true;
  // What is wrong with them is said when the whole file is read.
  const globals = Variables.safeParse(own["variables"] ?? {}).data;
  const variables = { ...globals, ...push.variables };
  const rule = fittingRule(entry["rules"], { push, variables, place });
  return rule !== undefined && rule["when"] !== "never";
}

async function assembleEntry(entry: Value, place: Place, assembly: Assembly): Promise<Hash> {
  const local = localPath(entry);
  if (local === undefined) {
    const what = describeInclude(entry);
    assembly.leftOut.push(what);
    assembly.notices.push(notice(place, what));
    return {};
  }
  const paths = pathsOf(expand(local, assembly.push.variables), assembly.push);
  const inputs = isHash(entry) && isHash(entry["inputs"]) ? entry["inputs"] : {};
  let root: Hash = {};
  for (const path of paths) {
    if (++assembly.includes > MOST_INCLUDES)
      throw new CiFileError(
        place,
        `more than ${MOST_INCLUDES} files are included; do they include each other?`,
      );
    const text = await assembly.readFile(path);
    if (text === undefined) throw new CiFileError(place, `the included file “${path}” is not in the commit`);
    root = mergeDeep(root, await assembleFile(parseCiFile(text, path), inputs, assembly));
  }
  return root;
}

function localPath(entry: Value): string | undefined {
  if (typeof entry === "string") return /^https?:\/\//.test(entry) ? undefined : entry;
  return isHash(entry) && typeof entry["local"] === "string" ? entry["local"] : undefined;
}

/** Files that a pattern names, or the one file. */
function pathsOf(local: string, { files }: Push): string[] {
  const path = local.replace(/^\//, "");
  if (!path.includes("*")) return [path];
  return files.filter((file) => /\.ya?ml$/.test(file) && anyMatches(path, [file])).toSorted();
}

/** `include: template: Security/SAST.gitlab-ci.yml`. */
function describeInclude(entry: Value): string {
  if (!isHash(entry)) return `“include: ${String(entry)}”`;
  const kind = ["local", "remote", "template", "component", "project", "artifact"].find(
    (key) => key in entry,
  );
  const files = listOf(entry["file"]).map(String).join(", ");
  const name = kind === undefined ? "" : `${kind}: ${String(entry[kind])}`;
  return `“include: ${name}${files && ` ${files}`}”`;
}

function notice(place: Place, what: string): Notice {
  return { ...place, message: `${what} is on a server that the stand-in does not ask, and left out` };
}
