/**
 * Plain scalars as GitLab reads them. It uses Ruby's YAML library, which follows YAML 1.1 with habits of its own: single letters
 * (`y`, `n`) are no booleans, `12:30` is hours and minutes in seconds, numbers may hold `_` and `,`. The patterns are those of Ruby's
 * scanner (psych, scalar_scanner.rb), as facts.
 */
import { isMap, isNode, LineCounter, parseAllDocuments, type ScalarTag, type YAMLSeq } from "yaml";
import { CiFileError, MAIN_FILE, MissingPartError, type Place } from "./errors.ts";

const MAX_DEPTH = 10;
/** Anchors are used a lot; a file that means to grow without end still ends here. */
const MOST_ALIASES = 10_000;

export type Value = unknown;
export type Hash = Record<string, Value>;

/** `!reference [job, key]` in the parsed document. */
export class Reference {
  readonly path: readonly string[];

  constructor(path: readonly string[]) {
    this.path = path;
  }
}

/** One file, or several that include each other and have been merged. */
export interface CiDocument {
  /** Top-level keys in the order of the file; anchors and `<<` are worked in, references not yet. */
  readonly root: Hash;
  /** Where this path stands, or the nearest parent of it that is in the file. */
  placeOf(...path: string[]): Place;
  /** How much of a path is in the file: the number of its keys. */
  depthOf(path: readonly string[]): number;
}

/** A file with what stands before its `---`: the header says which inputs it takes. */
export interface CiFile extends CiDocument {
  readonly header: Hash | undefined;
}

export function isHash(value: Value): value is Hash {
  return (
    typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Reference)
  );
}

/** Parses the YAML of one file. Throws CiFileError with the line of a syntax error. */
export function parseCiFile(text: string, file = MAIN_FILE): CiFile {
  const lines = new LineCounter();
  const referenceTag = {
    tag: "!reference",
    collection: "seq" as const,
    resolve: (sequence: YAMLSeq) => new Reference((sequence.toJSON() as unknown[]).map(String)),
  };
  const documents = parseAllDocuments(text, {
    lineCounter: lines,
    schema: "failsafe",
    customTags: (tags) => [...tags, ...rubyScalars, referenceTag as never],
    merge: true,
    // As Ruby takes it: of a key that is given twice, the last counts.
    uniqueKeys: false,
  });
  const [problem] = [...documents].flatMap((each) => each.errors);
  if (problem) {
    const { line } = lines.linePos(problem.pos[0]);
    const [message] = problem.message.split(" at line");
    throw new CiFileError({ file, line }, `not valid YAML: ${message}`, { cause: problem });
  }
  const [first, second] = [...documents];
  const whole = (each: typeof first): unknown => each?.toJS({ maxAliasCount: MOST_ALIASES });
  const start: unknown = whole(first);
  const hasHeader = second !== undefined && isHash(start) && "spec" in start;
  const contents = hasHeader ? second.contents : first?.contents;

  function find(path: readonly string[]): { depth: number; offset: number } {
    let node: unknown = contents;
    let [depth, offset] = [0, 0];
    for (const key of path) {
      const pair = isMap(node)
        ? node.items.findLast((item) => isNode(item.key) && String(item.key) === key)
        : undefined;
      if (!(pair && isNode(pair.key) && pair.key.range)) break;
      offset = pair.key.range[0];
      depth++;
      node = pair.value;
    }
    return { depth, offset };
  }

  const root = hasHeader ? whole(second) : start;
  if (!isHash(root)) throw new CiFileError({ file, line: 1 }, "the file must be a mapping of jobs");
  return {
    root,
    header: hasHeader ? start : undefined,
    placeOf: (...path) => ({ file, line: lines.linePos(find(path).offset).line || 1 }),
    depthOf: (path) => find(path).depth,
  };
}

/** Replaces each `!reference` by what it names, and what that names in turn. `place` is for the error. */
export function resolveReferences(value: Value, root: Hash, place: Place, depth = 0): Value {
  if (depth > MAX_DEPTH) throw new CiFileError(place, `!reference goes deeper than ${MAX_DEPTH} levels`);
  if (value instanceof Reference) {
    const found = value.path.reduce<Value>((at, key) => (isHash(at) ? at[key] : undefined), root);
    const name = value.path.join(", ");
    if (found === undefined)
      throw new MissingPartError(place, `!reference [${name}] names nothing in this file`, `[${name}]`);
    return resolveReferences(found, root, place, depth + 1);
  }
  if (Array.isArray(value)) return value.map((item) => resolveReferences(item, root, place, depth));
  if (!isHash(value)) return value;
  return mapValues(value, (item) => resolveReferences(item, root, place, depth));
}

export function mapValues(hash: Hash, change: (value: Value) => Value): Hash {
  return Object.fromEntries(Object.entries(hash).map(([key, value]) => [key, change(value)]));
}

/** Mappings are merged, everything else is replaced. */
export function mergeDeep(under: Hash, over: Hash): Hash {
  const merged: Hash = { ...under };
  for (const [key, value] of Object.entries(over)) {
    const below = merged[key];
    merged[key] = isHash(below) && isHash(value) ? mergeDeep(below, value) : value;
  }
  return merged;
}

const yes = /^(?:yes|true|on)$/i;
const no = /^(?:no|false|off)$/i;
const nothing = /^(?:~|null|)$/i;
const integer =
  /^[-+]?(?:0|[1-9](?:[0-9]|,[0-9]|_[0-9])*|0[_,]*[0-7_,]+|0[_,]*x[0-9a-fA-F_,]+|0[_,]*b[01_,]+)$/;
const clock = /^[-+]?\d[\d_]*(?::[0-5]?\d){1,2}(?:\.[\d_]*)?$/;
const float = /^[-+]?(?:\d[\d_,]*)?\.(?=\d|[eE]|$)\d*(?:[eE][-+]\d+)?$/;
const endless = /^(?:[-+]?\.inf|\.nan)$/i;
const date =
  /^-?\d{4}-\d{1,2}-\d{1,2}(?:(?:[Tt]|\s+)\d{1,2}:\d\d:\d\d(?:\.\d*)?(?:\s*(?:Z|[-+]\d{1,2}:?(?:\d\d)?))?)?$/;

const rubyScalars: readonly ScalarTag[] = [
  scalar("null", nothing, () => null),
  scalar("bool", yes, () => true),
  scalar("bool", no, () => false),
  scalar("timestamp", date, (text, refuse) => {
    refuse(`GitLab does not take a date here: put ${text} in quotes`);
    return text;
  }),
  scalar("int", clock, (text) => secondsOf(text)),
  scalar("int", integer, (text) => integerOf(text)),
  scalar("float", float, (text) =>
    /\d/.test(text) ? rubyFloat(Number(text.replaceAll(/[_,]/g, ""))) : text,
  ),
  scalar("float", endless, (text) =>
    /nan/i.test(text) ? "NaN" : text.startsWith("-") ? "-Infinity" : "Infinity",
  ),
];

function scalar(
  name: string,
  test: RegExp,
  resolve: (text: string, refuse: (message: string) => void) => unknown,
): ScalarTag {
  return { tag: `tag:yaml.org,2002:${name}`, default: true, test, resolve };
}

/** What does not fit a number exactly stays text: nothing counts with it. */
function integerOf(text: string): number | string {
  const digits = text.replaceAll(/[_,]/g, "").toLowerCase();
  const [, sign = "", rest = ""] = /^([-+]?)(.*)$/.exec(digits) ?? [];
  const octal = /^0[0-7]+$/.test(rest) ? `0o${rest.slice(1)}` : rest;
  const value = BigInt(octal) * (sign === "-" ? -1n : 1n);
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : String(value);
}

/** The first part counts as hours, also where there are only two. */
function secondsOf(text: string): number | string {
  const parts = text.replaceAll("_", "").split(":");
  const seconds = parts.reduce((sum, part, place) => sum + Number(part) * 60 ** (2 - place), 0);
  return text.includes(".") ? rubyFloat(seconds) : seconds;
}

/** A float in Ruby's words: `1.0`, `1.5e-07`. Floats are only ever texts of variables, so that is what they become here. */
function rubyFloat(value: number): string {
  const size = Math.abs(value);
  if (value !== 0 && (size < 1e-4 || size >= 1e16)) {
    const [mantissa = "", exponent = ""] = value.toExponential().split("e");
    const digits = exponent.slice(1).padStart(2, "0");
    return `${mantissa.includes(".") ? mantissa : `${mantissa}.0`}e${exponent[0]}${digits}`;
  }
  return Number.isInteger(value) ? `${value}.0` : String(value);
}
