import { type Check, type Checked, type FileOptions, readSecretFile } from "./secret-file.ts";
import type { Path } from "./source.ts";

export interface SecretOptions extends FileOptions {
  /** Why a secret may not stand where it stands; undefined when it may. */
  readonly inlineProblem: (path: Path) => string | undefined;
}

/** A secret of the configuration: the key that holds it, or the key with `File` after it that names a file. */
export interface SecretPlace<Key extends string> {
  readonly at: readonly string[];
  readonly key: Key;
  readonly from: Readonly<Partial<Record<Key | `${Key}File`, string | undefined>>>;
}

/** Reads a secret that is given one way or the other. */
export async function readSecret<T, Key extends string>(
  { at, key, from }: SecretPlace<Key>,
  check: Check<T>,
  options: SecretOptions,
): Promise<Checked<T>> {
  const inline = from[key];
  if (inline === undefined) return await readSecretFile(from[`${key}File`] ?? "", check, options);
  const path = [...at, key];
  const problem = options.inlineProblem(path);
  return problem ? { problem } : check(inline.trim(), path.join("."));
}
