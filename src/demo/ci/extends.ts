import { type CiDocument, type Hash, isHash, type Value } from "./document.ts";
import { CiFileError } from "./errors.ts";

const MAX_DEPTH = 11;

/** The job with everything it inherits by `extends`: mappings are merged, everything else is replaced. */
export function extended(document: CiDocument, name: string, job: Hash, chain: readonly string[] = []): Hash {
  const line = () => document.lineOf(chain[0] ?? name, "extends");
  if (chain.includes(name))
    throw new CiFileError(line(), `“${chain[0]}” extends itself: ${[...chain, name].join(" → ")}`);
  if (chain.length >= MAX_DEPTH)
    throw new CiFileError(line(), `extends goes deeper than ${MAX_DEPTH} levels`);
  const { extends: given, ...own } = job;
  if (given === undefined) return own;
  const parents = (Array.isArray(given) ? given : [given]).map(String);
  let merged: Hash = {};
  for (const parent of parents) {
    const base = document.root[parent];
    if (!isHash(base))
      throw new CiFileError(line(), `“${name}” extends “${parent}”, which is not in this file`);
    merged = mergeDeep(merged, extended(document, parent, base, [...chain, name]));
  }
  return mergeDeep(merged, own);
}

function mergeDeep(under: Hash, over: Hash): Hash {
  const merged: Hash = { ...under };
  for (const [key, value] of Object.entries(over)) merged[key] = mergeValue(merged[key], value);
  return merged;
}

function mergeValue(under: Value, over: Value): Value {
  return isHash(under) && isHash(over) ? mergeDeep(under, over) : over;
}
