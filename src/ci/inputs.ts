import { type Hash, isHash, mapValues, Reference, type Value } from "./document.ts";
import { CiFileError, type Place } from "./errors.ts";
import { expand, type Variables } from "./push.ts";

/** A value that takes the place of `$[[ … ]]` may be a list or a mapping, so a text that is nothing else becomes that. */
const alone = /^\s*\$\[\[([^\]]*)\]\]\s*$/;
const within = /\$\[\[([^\]]*)\]\]/g;

export interface InputSource {
  /** `spec:inputs` of the file's header. */
  readonly spec: Value;
  /** What the including file gives. */
  readonly given: Hash;
  readonly variables: Variables;
  readonly place: Place;
}

/** Works a file's inputs into its content. Throws CiFileError for an input without a value. */
export function withInputs(content: Hash, source: InputSource): Hash {
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
