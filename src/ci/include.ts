/** Puts the files together that `include: local` names; other includes are on servers, and left out by name. */
import type { Notice } from "./definition.ts";
import {
  type CiDocument,
  type CiFile,
  type Hash,
  isHash,
  mapValues,
  mergeDeep,
  parseCiFile,
  Reference,
  type Value,
} from "./document.ts";
import { CiFileError, MAIN_FILE, type Place } from "./errors.ts";
import { VariableMap } from "./keywords.ts";
import { expand, type Push, type Variables } from "./push.ts";
import { anyMatches, fittingRule, listOf } from "./rules.ts";

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
  const globals = VariableMap.safeParse(own["variables"] ?? {}).data;
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

/** A value that takes the place of `$[[ … ]]` may be a list or a mapping, so a text that is nothing else becomes that. */
const alone = /^\s*\$\[\[([^\]]*)\]\]\s*$/;
const within = /\$\[\[([^\]]*)\]\]/g;

interface InputSource {
  /** `spec:inputs` of the file's header. */
  readonly spec: Value;
  /** What the including file gives. */
  readonly given: Hash;
  readonly variables: Variables;
  readonly place: Place;
}

/** Works a file's inputs into its content. Throws CiFileError for an input without a value. */
function withInputs(content: Hash, source: InputSource): Hash {
  const inputs = inputValues(source);
  const valueFor = (block: string): Value => blockValue(block, inputs, source);

  function filled(value: Value): Value {
    if (typeof value === "string") return filledText(value);
    if (value instanceof Reference) return new Reference(value.path.map((key) => String(filledText(key))));
    if (Array.isArray(value)) return value.map(filled);
    if (!isHash(value)) return value;
    const entries = Object.entries(value).map(([key, item]) => [String(filledText(key)), filled(item)]);
    return Object.fromEntries(entries);
  }

  function filledText(text: string): Value {
    const whole = alone.exec(text)?.[1];
    if (whole !== undefined) return valueFor(whole);
    return text.replace(within, (_, block: string) => String(valueFor(block)));
  }

  return filled(content) as Hash;
}

function inputValues({ spec, given, place }: InputSource): Hash {
  const declared = isHash(spec) && isHash(spec["inputs"]) ? spec["inputs"] : {};
  const unknown = Object.keys(given).find((name) => !(name in declared));
  if (unknown !== undefined) throw new CiFileError(place, `the file has no input “${unknown}”`);
  const defaults = mapValues(declared, (each) => (isHash(each) ? each["default"] : undefined));
  return { ...defaults, ...given };
}

/** `inputs.name | function | function(argument)`. */
function blockValue(block: string, inputs: Hash, { variables, place }: InputSource): Value {
  const [path = "", ...functions] = block.split("|").map((part) => part.trim());
  const [root, ...keys] = path.split(".");
  const value = keys.reduce<Value>((at, key) => (isHash(at) ? at[key] : undefined), inputs);
  if (root !== "inputs" || value === undefined)
    throw new CiFileError(
      place,
      `“${path}” has no value: the input has no default, and nothing gives it one`,
    );
  return functions.reduce<Value>((at, text) => applied(text, at, variables, place), value);
}

function applied(text: string, value: Value, variables: Variables, place: Place): Value {
  const truncate = /^truncate\(\s*(\d+)\s*,\s*(\d+)\s*\)$/.exec(text);
  if (truncate) return String(value).slice(Number(truncate[1]), Number(truncate[1]) + Number(truncate[2]));
  if (text === "expand_vars") return expand(String(value), variables);
  if (text === "posix_escape") return String(value).replaceAll(/[^\w@%+=:,./-]/g, "\\$&");
  throw new CiFileError(place, `“${text}” is no function for inputs`);
}
