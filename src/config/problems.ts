import type { z } from "zod";
import { type FieldMeta, fieldsOf, formsOf, metaOf, schemaAt } from "./schema.ts";
import type { Path } from "./source.ts";

type Issue = z.core.$ZodIssue;
type Schema = z.core.$ZodType;

/** A problem at a path of the configuration, before its place in a file is known. */
export interface PathProblem {
  readonly path: Path;
  readonly message: string;
}

/** Turns what the schema found into words for the operator. Never repeats a value of a secret field. */
export function wordIssues(schema: Schema, issues: readonly Issue[], input: unknown): PathProblem[] {
  return issues.flatMap((issue) => wordIssue(schema, issue, input));
}

function wordIssue(schema: Schema, issue: Issue, input: unknown): PathProblem[] {
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => ({
      path: [...issue.path, key],
      message: unknownKey(schema, issue.path, key),
    }));
  }
  const inside = issue.code === "invalid_union" ? insideOfOneForm(issue) : [];
  if (inside.length > 0) return wordIssues(schema, inside, input);
  const name = issue.path.length > 0 ? issue.path.join(".") : "the configuration";
  const here = schemaAt(schema, issue.path);
  const meta = here ? metaOf(here) : {};
  const value = valueAt(input, issue.path);
  const message = `${name} ${wordValue(issue, value, meta)}`;
  return [{ path: issue.path, message }];
}

/** What is wrong inside the one form that was meant: that whose problems lie deeper, or are not about the kind of value. */
function insideOfOneForm({ errors, path }: Extract<Issue, { code: "invalid_union" }>): Issue[] {
  const isOfThatKind = (issue: Issue) =>
    issue.path.length > 0 || !["invalid_type", "invalid_value", "invalid_union"].includes(issue.code);
  const meant = errors.filter((issues) => issues.every(isOfThatKind));
  const [only = [], ...others] = meant;
  if (others.length > 0) return [];
  return only.map((issue) => ({ ...issue, path: [...path, ...issue.path] }) as Issue);
}

function unknownKey(schema: Schema, path: Path, key: string): string {
  const parent = schemaAt(schema, path);
  const forms = parent ? formsOf(parent) : [];
  const known = forms.flatMap((form) => [...(fieldsOf(form)?.keys() ?? [])]);
  const close = nearest(key, known);
  const where = path.length > 0 ? ` of ${path.join(".")}` : "";
  return `unknown key “${key}”${where}; ${close ? `did you mean “${close}”?` : `known are ${known.join(", ")}`}`;
}

function wordValue(issue: Issue, value: unknown, meta: FieldMeta): string {
  if (value === undefined && issue.code !== "custom") return `is missing: expected ${expected(issue, meta)}`;
  if (issue.code === "invalid_key") return `is not an acceptable name: ${issue.issues[0]?.message ?? ""}`;
  if (issue.code === "custom" || issue.code === "invalid_format")
    return `is not acceptable: ${issue.message}`;
  const got = meta.secret ? kindOf(value) : describeValue(value);
  const close =
    issue.code === "invalid_value" && typeof value === "string"
      ? nearest(value, issue.values.map(String))
      : undefined;
  return `is ${got}: expected ${expected(issue, meta)}${close ? `; did you mean “${close}”?` : ""}`;
}

const units = {
  duration: "a duration such as 30s, 5m or 1h30m",
  size: "a size such as 512MiB or 4GiB",
  egress: "one of none, internet, or a list of host:port, or a map with “mode” and “hosts”",
};

const types: Readonly<Record<string, string>> = {
  int: "a whole number",
  number: "a number",
  string: "text",
  boolean: "true or false",
  array: "a list",
  object: "a map of keys",
  record: "a map of names",
};

function expected(issue: Issue, meta: FieldMeta): string {
  if (meta.unit) return units[meta.unit];
  switch (issue.code) {
    case "invalid_type":
      return types[issue.expected] ?? issue.expected;
    case "invalid_value":
      return `one of ${issue.values.map(String).join(", ")}`;
    case "invalid_union":
      return [...new Set(issue.errors.flat().map((each) => expected(each, {})))].join(", or ");
    case "too_small":
      return `at least ${issue.minimum}${ofWhat(issue.origin)}`;
    case "too_big":
      return `at most ${issue.maximum}${ofWhat(issue.origin)}`;
    default:
      return issue.message;
  }
}

function ofWhat(origin: string): string {
  if (origin === "string") return " characters";
  return origin === "array" ? " entries" : "";
}

function describeValue(value: unknown): string {
  if (typeof value === "string") return `“${value.length > 60 ? `${value.slice(0, 60)}…` : value}”`;
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  return kindOf(value);
}

function kindOf(value: unknown): string {
  if (value === null) return "empty";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "a map";
  return (
    { string: "text", number: "a number", boolean: "true or false" }[typeof value as string] ?? typeof value
  );
}

function valueAt(input: unknown, path: Path): unknown {
  let here = input;
  for (const key of path) here = (here as Record<PropertyKey, unknown> | null | undefined)?.[key];
  return here;
}

/** The member of `known` that differs least from `word`, or undefined when none is close enough to be meant. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  const limit = Math.max(1, Math.floor(word.length / 3));
  const ranked = known
    .map((candidate) => ({ candidate, distance: editDistance(word.toLowerCase(), candidate.toLowerCase()) }))
    .filter(({ distance }) => distance <= limit)
    .toSorted((a, b) => a.distance - b.distance);
  return ranked[0]?.candidate;
}

/** Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`. */
export function editDistance(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, column) => column)];
  for (let row = 1; row <= a.length; row++) {
    const line = [row];
    for (let column = 1; column <= b.length; column++) {
      const same = a[row - 1] === b[column - 1];
      const swapped = row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1];
      line[column] = Math.min(
        cell(rows, row - 1, column) + 1,
        (line[column - 1] ?? 0) + 1,
        cell(rows, row - 1, column - 1) + (same ? 0 : 1),
        swapped ? cell(rows, row - 2, column - 2) + 1 : Number.POSITIVE_INFINITY,
      );
    }
    rows.push(line);
  }
  return cell(rows, a.length, b.length);
}

function cell(rows: readonly number[][], row: number, column: number): number {
  return rows[row]?.[column] ?? Number.POSITIVE_INFINITY;
}
