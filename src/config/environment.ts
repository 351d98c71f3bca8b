import { parse } from "yaml";
import type { z } from "zod";
import type { ConfigProblem } from "./errors.ts";
import { nearest } from "./problems.ts";
import { fieldsOf, schemaAt, valuesOf } from "./schema.ts";
import type { Path } from "./source.ts";

type Schema = z.core.$ZodType;
type Tree = Record<string, unknown>;

const PREFIX = "FIRERUNNER_";
/** Names with the prefix that are not settings: which file to read, and what tests use. */
const reserved = /^FIRERUNNER_(CONFIG$|TEST_)/;

/** True when the environment sets anything at all. */
export function hasSettings(env: NodeJS.ProcessEnv): boolean {
  return settingNames(env).length > 0;
}

function settingNames(env: NodeJS.ProcessEnv): string[] {
  return Object.keys(env).filter((name) => name.startsWith(PREFIX) && !reserved.test(name));
}

export interface Overlay {
  readonly value: Tree;
  readonly problems: readonly ConfigProblem[];
  /** Which variable set the value at a path (dotted). */
  readonly setBy: ReadonlyMap<string, string>;
}

/**
 * Lays the `FIRERUNNER_…` variables over the file's values; `__` goes one level down, and case and single underscores do
 * not count: FIRERUNNER_POOLS__SMALL__RUNNER__TOKEN_FILE is pools.small.runner.tokenFile.
 */
export function overlayEnvironment(schema: Schema, base: Tree, env: NodeJS.ProcessEnv): Overlay {
  const value = structuredClone(base);
  const problems: ConfigProblem[] = [];
  const setBy = new Map<string, string>();
  // Outer levels first, so that POOLS={…} does not undo POOLS__SMALL__CONCURRENCY.
  for (const name of settingNames(env).toSorted((a, b) => depth(a) - depth(b) || a.localeCompare(b))) {
    const found = findPath(schema, value, name.slice(PREFIX.length).split("__"));
    if ("unknown" in found) {
      problems.push({ where: name, message: unknownVariable(found) });
      continue;
    }
    const leaf = schemaAt(schema, found.path);
    if (leaf === undefined || !assign(value, found.path, readValue(leaf, env[name] ?? ""))) {
      problems.push({ where: name, message: "cannot be set here: what the file has above it is not a map" });
      continue;
    }
    setBy.set(found.path.join("."), name);
  }
  return { value, problems, setBy };
}

/** `pools.small.runner.tokenFile` → `FIRERUNNER_POOLS__SMALL__RUNNER__TOKEN_FILE`. */
function variableName(path: Path): string {
  const segments = path.map((key) =>
    String(key)
      .replace(/([a-z0-9])([A-Z])/g, "$1_$2")
      .replaceAll("-", "_")
      .toUpperCase(),
  );
  return PREFIX + segments.join("__");
}

function depth(name: string): number {
  return name.split("__").length;
}

type Found = { path: string[] } | { unknown: string; parents: string[]; known: string[] };

function findPath(schema: Schema, tree: unknown, segments: readonly string[]): Found {
  const path: string[] = [];
  let here: Schema | undefined = schema;
  let value = tree;
  for (const segment of segments) {
    const step = stepInto(here, value, segment);
    if (!("key" in step)) return { unknown: segment, parents: path, known: step.known };
    path.push(step.key);
    here = step.schema;
    value = isTree(value) ? value[step.key] : undefined;
  }
  return { path };
}

/** One level down: a field of the schema, an entry that the file has, or a new entry named after the variable. */
function stepInto(
  schema: Schema | undefined,
  value: unknown,
  segment: string,
): { key: string; schema: Schema | undefined } | { known: string[] } {
  const fields = schema && fieldsOf(schema);
  const entry = schema && valuesOf(schema);
  const known = fields ? [...fields.keys()] : keysOf(value);
  const match = known.find((key) => plainName(key) === plainName(segment));
  if (match !== undefined && (fields || entry)) return { key: match, schema: fields?.get(match) ?? entry };
  if (entry && segment) return { key: newName(segment), schema: entry };
  return { known: fields ? known : [] };
}

function unknownVariable({ unknown, parents, known }: Exclude<Found, { path: string[] }>): string {
  const close = nearest(
    plainName(unknown),
    known.map((key) => plainName(key)),
  );
  const meant = known.find((key) => plainName(key) === close);
  const parts = unknown.split("_");
  const nested = known.find((key) => plainName(key) === plainName(parts[0] ?? ""));
  const levels = nested && parts.length > 1 ? [nested, parts.slice(1).join("_")] : undefined;
  const suggestion = meant ? [meant] : levels;
  const start = `sets no known setting${parents.length > 0 ? ` of ${parents.join(".")}` : ""}`;
  return suggestion ? `${start}; did you mean ${variableName([...parents, ...suggestion])}?` : start;
}

/** Text where text is accepted; otherwise what the text means in YAML: numbers, booleans, lists. */
function readValue(schema: Schema, text: string): unknown {
  const accepts = (value: unknown) => (schema as z.ZodType).safeParse(value).success;
  if (accepts(text)) return text;
  try {
    return parse(text) as unknown;
  } catch {
    return text;
  }
}

/** A secret given one way replaces the same secret given the other way further down. */
function assign(tree: Tree, path: readonly string[], value: unknown): boolean {
  let here = tree;
  for (const key of path.slice(0, -1)) {
    const next = Object.hasOwn(here, key) ? here[key] : undefined;
    if (next !== undefined && next !== null && !isTree(next)) return false;
    if (!isTree(next)) here[key] = {};
    here = here[key] as Tree;
  }
  const last = path.at(-1) ?? "";
  const twin = last.endsWith("File") ? last.slice(0, -"File".length) : `${last}File`;
  delete here[twin];
  here[last] = value;
  return true;
}

function isTree(value: unknown): value is Tree {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function keysOf(value: unknown): string[] {
  return isTree(value) ? Object.keys(value) : [];
}

function plainName(name: string): string {
  return name.replace(/[-_.]/g, "").toUpperCase();
}

function newName(segment: string): string {
  return segment.toLowerCase().replaceAll("_", "-");
}
