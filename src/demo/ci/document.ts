import { isMap, isNode, LineCounter, parseDocument, type YAMLSeq } from "yaml";
import { CiFileError } from "./errors.ts";

const MAX_DEPTH = 10;

export type Value = unknown;
export type Hash = Record<string, Value>;

/** `!reference [job, key]` in the parsed document. */
class Reference {
  readonly path: readonly string[];

  constructor(path: readonly string[]) {
    this.path = path;
  }
}

export interface CiDocument {
  /** Top-level keys in the order of the file; anchors and `<<` are worked in, references not yet. */
  readonly root: Hash;
  /** The line (from 1) where this path stands, or that of the nearest parent that is in the file. */
  lineOf(...path: string[]): number;
}

export function isHash(value: Value): value is Hash {
  return (
    typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Reference)
  );
}

/** Parses the YAML. Throws CiFileError with the line of a syntax error. */
export function parseCiDocument(text: string): CiDocument {
  const lines = new LineCounter();
  const referenceTag = {
    tag: "!reference",
    collection: "seq" as const,
    resolve: (sequence: YAMLSeq) => new Reference((sequence.toJSON() as unknown[]).map(String)),
  };
  const document = parseDocument(text, {
    lineCounter: lines,
    // GitLab reads YAML 1.1; of what that has more than 1.2, pipelines use the merge key.
    merge: true,
    customTags: [referenceTag as never],
  });
  const [problem] = document.errors;
  if (problem) {
    const line = lines.linePos(problem.pos[0]).line;
    throw new CiFileError(line, `not valid YAML: ${problem.message.split(" at line")[0]}`, {
      cause: problem,
    });
  }

  function lineOf(...path: string[]): number {
    for (let length = path.length; length > 0; length--) {
      const parent = length === 1 ? document.contents : document.getIn(path.slice(0, length - 1), true);
      const pair = isMap(parent)
        ? parent.items.find((item) => isNode(item.key) && String(item.key) === path[length - 1])
        : undefined;
      if (pair && isNode(pair.key) && pair.key.range) return lines.linePos(pair.key.range[0]).line;
    }
    return 1;
  }

  const root: unknown = document.toJS();
  if (!isHash(root)) throw new CiFileError(1, "the file must be a mapping of jobs");
  return { root, lineOf };
}

/** Replaces each `!reference` by what it names, and what that names in turn. `line` is for the error. */
export function resolveReferences(value: Value, root: Hash, line: number, depth = 0): Value {
  if (depth > MAX_DEPTH) throw new CiFileError(line, `!reference goes deeper than ${MAX_DEPTH} levels`);
  if (value instanceof Reference) {
    const found = value.path.reduce<Value>((at, key) => (isHash(at) ? at[key] : undefined), root);
    if (found === undefined)
      throw new CiFileError(line, `!reference [${value.path.join(", ")}] names nothing in this file`);
    return resolveReferences(found, root, line, depth + 1);
  }
  if (Array.isArray(value)) return value.map((item) => resolveReferences(item, root, line, depth));
  if (!isHash(value)) return value;
  const entries = Object.entries(value).map(([key, item]) => [
    key,
    resolveReferences(item, root, line, depth),
  ]);
  return Object.fromEntries(entries);
}
