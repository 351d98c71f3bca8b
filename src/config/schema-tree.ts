import { z } from "zod";

type Schema = z.core.$ZodType;

/** What a schema says of itself through `.meta()`, wrappers included; the outermost word wins. */
export interface FieldMeta {
  readonly description?: string | undefined;
  /** The value must never be shown. */
  readonly secret?: boolean | undefined;
  /** In which words people write it, where it is not what it is inside. */
  readonly unit?: "duration" | "size" | "egress" | undefined;
  /** What becomes of a change of it on reload; of a section, what becomes of those of its keys that do not say. */
  readonly reload?: ReloadMark | undefined;
}

/** `live`: read anew each time it is used. `restart`: used as it was at the start. */
export type ReloadMark = "live" | "restart";

/** The schema below defaults, optionality and transforms: what the operator writes. */
function core(schema: Schema): Schema {
  const inner = innerOf(schema);
  return inner === undefined ? schema : core(inner);
}

function innerOf(schema: Schema): Schema | undefined {
  const def = schema._zod.def as { type: string; innerType?: Schema; in?: Schema };
  return def.type === "pipe" ? def.in : def.innerType;
}

export function metaOf(schema: Schema): FieldMeta {
  const inner = innerOf(schema);
  return { ...(inner ? metaOf(inner) : {}), ...z.globalRegistry.get(schema) };
}

/** What an operator gets by leaving the field out, in its inner form or in words; undefined when there is no default. */
export function defaultOf(schema: Schema): unknown {
  const def = schema._zod.def as { type: string; defaultValue?: unknown };
  if (def.type === "default" || def.type === "prefault") return def.defaultValue;
  const inner = innerOf(schema);
  return inner === undefined ? undefined : defaultOf(inner);
}

/** True for what may be left out and then is not there at all. */
export function isOptional(schema: Schema): boolean {
  const { type } = schema._zod.def as { type: string };
  if (type === "default" || type === "prefault") return false;
  const inner = innerOf(schema);
  return type === "optional" || (inner !== undefined && isOptional(inner));
}

/** Fields of an object, in the order of the schema; undefined when it is no object with fixed fields. */
export function fieldsOf(schema: Schema): ReadonlyMap<string, Schema> | undefined {
  const plain = core(schema);
  return plain instanceof z.ZodObject ? new Map(Object.entries(plain.shape)) : undefined;
}

/** The schema of a record's values (`pools`: any name); undefined when it is no record. */
export function valuesOf(schema: Schema): Schema | undefined {
  const plain = core(schema);
  return plain instanceof z.ZodRecord ? (plain.valueType as Schema) : undefined;
}

/** The schema of a list's entries; undefined when it is no list. */
function entriesOf(schema: Schema): Schema | undefined {
  const plain = core(schema);
  return plain instanceof z.ZodArray ? (plain.element as Schema) : undefined;
}

/** The forms that a value may have; one where there is no choice. */
export function formsOf(schema: Schema): readonly Schema[] {
  const plain = core(schema);
  return plain instanceof z.ZodUnion ? (plain.options as readonly Schema[]).flatMap(formsOf) : [schema];
}

function stepInto(schema: Schema, key: PropertyKey): Schema | undefined {
  if (typeof key === "number") return entriesOf(schema);
  return fieldsOf(schema)?.get(String(key)) ?? valuesOf(schema);
}

/** The schema at `path`, or undefined when the path leaves what the schema knows. */
export function schemaAt(schema: Schema, path: readonly PropertyKey[]): Schema | undefined {
  let here: Schema | undefined = schema;
  for (const key of path) {
    if (here === undefined) return undefined;
    here = formsOf(here)
      .map((form) => stepInto(form, key))
      .find((each) => each !== undefined);
  }
  return here;
}
