import { type CiDocument, type Hash, isHash, mergeDeep } from "./document.ts";
import { CiFileError, MissingPartError } from "./errors.ts";

const MAX_DEPTH = 11;

/**
 * The job with everything it inherits by `extends`: mappings are merged, everything else is replaced. Throws CiFileError, and
 * MissingPartError for a parent that is in no file.
 */
export function extended(document: CiDocument, name: string, job: Hash, chain: readonly string[] = []): Hash {
  const place = () => document.placeOf(chain[0] ?? name, "extends");
  if (chain.includes(name))
    throw new CiFileError(place(), `“${chain[0]}” extends itself: ${[...chain, name].join(" → ")}`);
  if (chain.length >= MAX_DEPTH)
    throw new CiFileError(place(), `extends goes deeper than ${MAX_DEPTH} levels`);
  const { extends: given, ...own } = job;
  if (given === undefined || given === null) return own;
  const parents = (Array.isArray(given) ? given : [given]).flat(MAX_DEPTH).map(String);
  let merged: Hash = {};
  for (const parent of parents) {
    const base = document.root[parent];
    if (!isHash(base))
      throw new MissingPartError(
        place(),
        `“${name}” extends “${parent}”, which is not in this file`,
        `“${parent}”`,
      );
    merged = mergeDeep(merged, extended(document, parent, base, [...chain, name]));
  }
  return mergeDeep(merged, own);
}
