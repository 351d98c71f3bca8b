import { parse, stringify } from "yaml";
import { notCreated } from "./faults.ts";

const alphabet = /[A-Za-z0-9+/]/;

/** The document with the server's `instance_id` in it and its keys in order; base64 in, base64 out. */
export function addInstanceId(metaData: string | undefined, uid: string): string {
  const known = metaData === undefined ? {} : flatMap(decodeStrictly(metaData));
  const document = { ...known, instance_id: uid };
  return Buffer.from(stringify(document, { sortMapEntries: true, lineWidth: 0 })).toString("base64");
}

function decodeStrictly(text: string): string {
  const at = illegalByte(text);
  if (at === undefined) return Buffer.from(text, "base64").toString();
  const reason = `decoding existing instance metadata: illegal base64 data at input byte ${at}`;
  throw notCreated(`adding instance data: ${reason}`);
}

/** Where the daemon's decoder stops, counted as it counts: line ends are passed over. */
function illegalByte(text: string): number | undefined {
  const characters = [...text.matchAll(/[^\r\n]/g)];
  const body = characters.findIndex(([character]) => !alphabet.test(character));
  const end = body < 0 ? characters.length : body;
  const padding = characters
    .slice(end)
    .map(([character]) => character)
    .join("");
  if (end % 4 === 0 && padding === "") return undefined;
  if (end % 4 >= 2 && padding === "=".repeat(4 - (end % 4))) return undefined;
  return padding === "" ? text.length - (end % 4) : characters[end]?.index;
}

function flatMap(document: string): Record<string, string> {
  const value: unknown = parse(document);
  if (value === null || value === undefined) return {};
  if (goType(value) !== "object") throw notFlat(value, "map[string]string");
  for (const each of Object.values(value as object))
    if (typeof each !== "string") throw notFlat(each, "string");
  return value as Record<string, string>;
}

function notFlat(value: unknown, wanted: string) {
  const doing = "adding instance data: unmarshalling exists instance metadata: error unmarshaling JSON";
  const reason = `json: cannot unmarshal ${goType(value)} into Go value of type ${wanted}`;
  return notCreated(`${doing}: while decoding JSON: ${reason}`);
}

function goType(value: unknown): string {
  if (Array.isArray(value)) return "array";
  return typeof value === "boolean" ? "bool" : typeof value;
}
