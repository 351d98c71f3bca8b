/**
 * Settings of earlier releases that do nothing: they are taken out before the schema sees the configuration, so that an old file is
 * still accepted, and each is told of. An entry can go one release after it came.
 */
import type { Path } from "./source.ts";

const PREFIX = "FIRERUNNER_";

interface IgnoredSetting {
  /** `*` stands for any name. */
  readonly path: readonly string[];
  readonly reason: string;
}

const ignoredSettings: readonly IgnoredSetting[] = [
  ["pools", "*", "executor"],
  ["webhook", "machine", "executor"],
].map((path) => ({ path, reason: "does nothing: scripts always run in the machine itself" }));

/** A setting that the configuration has and that does nothing. */
export interface IgnoredValue {
  /** Where the value stands; undefined when an environment variable of its own set it. */
  readonly path: Path | undefined;
  /** What names it: the dotted path, or the variable. */
  readonly name: string;
  readonly reason: string;
}

/** The environment without variables that set what does nothing, and those variables. */
export function withoutIgnoredVariables(env: NodeJS.ProcessEnv): {
  readonly env: NodeJS.ProcessEnv;
  readonly ignored: readonly IgnoredValue[];
} {
  const kept = { ...env };
  const ignored = Object.keys(env).flatMap((name): IgnoredValue[] => {
    const setting = ignoredSettings.find(({ path }) => isVariableOf(path, name));
    if (!setting) return [];
    delete kept[name];
    return [{ path: undefined, name, reason: setting.reason }];
  });
  return { env: kept, ignored };
}

/** As in config/environment.ts: `__` goes one level down; case and single underscores do not count. */
function isVariableOf(path: readonly string[], name: string): boolean {
  if (!name.startsWith(PREFIX)) return false;
  const segments = name.slice(PREFIX.length).split("__");
  const plain = (text: string | undefined) => text?.replaceAll("_", "").toLowerCase();
  return (
    segments.length === path.length && path.every((key, at) => key === "*" || plain(segments[at]) === key)
  );
}

/** A copy of the values that were read without those that do nothing, and their paths. */
export function withoutIgnoredValues(value: Record<string, unknown>): {
  readonly value: Record<string, unknown>;
  readonly ignored: readonly IgnoredValue[];
} {
  const kept = structuredClone(value);
  const ignored = ignoredSettings.flatMap(({ path, reason }) =>
    takeOut(kept, path).map((found): IgnoredValue => ({ path: found, name: found.join("."), reason })),
  );
  return { value: kept, ignored };
}

function takeOut(tree: unknown, [key = "", ...deeper]: readonly string[]): string[][] {
  if (typeof tree !== "object" || tree === null || Array.isArray(tree)) return [];
  const map = tree as Record<string, unknown>;
  const keys = key === "*" ? Object.keys(map) : Object.hasOwn(map, key) ? [key] : [];
  if (deeper.length > 0)
    return keys.flatMap((each) => takeOut(map[each], deeper).map((path) => [each, ...path]));
  for (const each of keys) delete map[each];
  return keys.map((each) => [each]);
}
