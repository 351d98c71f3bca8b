import { z } from "zod";
import { HOUR_MS, MINUTE_MS, SECOND_MS } from "../base/units.ts";
import { type Egress, formatEgress } from "../domain/egress.ts";
import { defaultOf, type FieldMeta, fieldsOf, metaOf, Settings, valuesOf } from "./schema.ts";
import type { Path } from "./source.ts";

type Schema = z.core.$ZodType;

/** One setting as it is in force, in the words of the configuration file. */
export interface ConfigValue {
  readonly path: readonly string[];
  /** `[secret]` for a secret. */
  readonly value: unknown;
  /** `default`, `file:line:column`, or the name of an environment variable. */
  readonly origin: string;
}

/** Every setting, flat, in the order of the schema. */
export function listValues(
  schema: Schema,
  settings: unknown,
  originOf: (path: Path) => string,
  path: readonly string[] = [],
): ConfigValue[] {
  if (settings === undefined) return [];
  const fields = fieldsOf(schema);
  const entry = valuesOf(schema);
  const tree = settings as Record<string, unknown>;
  if (fields) {
    return [...fields].flatMap(([key, field]) => listValues(field, tree[key], originOf, [...path, key]));
  }
  if (entry)
    return Object.keys(tree).flatMap((key) => listValues(entry, tree[key], originOf, [...path, key]));
  return [{ path, value: formatValue(settings, metaOf(schema)), origin: originOf(path) }];
}

/** A value as an operator would write it. */
function formatValue(value: unknown, meta: FieldMeta): unknown {
  if (meta.secret) return "[secret]";
  if (meta.unit === "duration" && typeof value === "number") return durationText(value);
  if (meta.unit === "size" && typeof value === "number") return sizeText(value);
  if (meta.unit === "egress" && typeof value === "object") return formatEgress(value as Egress);
  return value;
}

function durationText(ms: number): string {
  const parts: string[] = [];
  let rest = ms;
  for (const [name, unit] of [
    ["d", 24 * HOUR_MS],
    ["h", HOUR_MS],
    ["m", MINUTE_MS],
    ["s", SECOND_MS],
    ["ms", 1],
  ] as const) {
    const count = Math.floor(rest / unit);
    if (count > 0) parts.push(`${count}${name}`);
    rest -= count * unit;
  }
  return parts.join("") || "0s";
}

function sizeText(mib: number): string {
  return mib % 1024 === 0 && mib > 0 ? `${mib / 1024}GiB` : `${mib}MiB`;
}

const unitPatterns = {
  duration: { pattern: "^([0-9]+(\\.[0-9]+)?(ms|s|m|h|d))+$", examples: ["30s", "1h30m"] },
  size: { pattern: "^[0-9]+(\\.[0-9]+)?([KMGT]i?)?B$", examples: ["512MiB", "4GiB"] },
};

/** JSON Schema of the configuration file as people write it, for editors and for docs/configuration.md. */
export function configJsonSchema(): Record<string, unknown> {
  return z.toJSONSchema(Settings, {
    io: "input",
    override: ({ zodSchema, jsonSchema }) => translate(zodSchema, jsonSchema as Record<string, unknown>),
  }) as Record<string, unknown>;
}

/** Our own words become standard ones, and what the converter cannot know (defaults before a transform) is put in. */
function translate(schema: z.core.$ZodType, json: Record<string, unknown>): void {
  const meta = metaOf(schema);
  const standard = defaultOf(schema);
  for (const own of ["unit", "secret", "reload", "default"]) delete json[own];
  if (meta.secret) json["writeOnly"] = true;
  if (meta.reload) json["x-reload"] = meta.reload;
  if (meta.unit === "duration" || meta.unit === "size") Object.assign(json, unitPatterns[meta.unit]);
  if (isLeaf(standard)) json["default"] = formatValue(standard, meta);
  if (json["maximum"] === Number.MAX_SAFE_INTEGER) delete json["maximum"];
  if (json["minimum"] === Number.MIN_SAFE_INTEGER) delete json["minimum"];
}

function isLeaf(value: unknown): boolean {
  return value !== undefined && (typeof value !== "object" || value === null || Array.isArray(value));
}
