import { existsSync } from "node:fs";

/** Where the configuration is looked for when nobody names it, in this order. */
const DEFAULT_FILES = ["/etc/firerunner/config.yaml", "./firerunner.yaml"] as const;

/** The file to read: the one that was named, else the first default that exists, else undefined. */
export function findConfigFile(
  named: string | undefined,
  env: NodeJS.ProcessEnv,
  exists: (path: string) => boolean = existsSync,
): string | undefined {
  return named ?? (env["FIRERUNNER_CONFIG"] || undefined) ?? DEFAULT_FILES.find((file) => exists(file));
}
