import { z } from "zod";
import { Settings } from "./schema.ts";
import { defaultOf, metaOf } from "./schema-tree.ts";
import { formatValue } from "./values.ts";

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
  for (const own of ["unit", "secret", "default"]) delete json[own];
  if (meta.secret) json["writeOnly"] = true;
  if (meta.unit === "duration" || meta.unit === "size") Object.assign(json, unitPatterns[meta.unit]);
  if (isLeaf(standard)) json["default"] = formatValue(standard, meta);
  if (json["maximum"] === Number.MAX_SAFE_INTEGER) delete json["maximum"];
  if (json["minimum"] === Number.MIN_SAFE_INTEGER) delete json["minimum"];
}

function isLeaf(value: unknown): boolean {
  return value !== undefined && (typeof value !== "object" || value === null || Array.isArray(value));
}
