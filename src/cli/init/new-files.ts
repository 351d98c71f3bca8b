import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { syncPath } from "../../base/durable-file.ts";
import { describeError, systemCode } from "../../base/errors.ts";
import { makeDirectory } from "../../base/trusted-file.ts";
import { loadConfig } from "../../config/load.ts";
import { readLocalFile } from "../../config/named-files.ts";
import { CliError } from "../errors.ts";

export interface NewFile {
  readonly path: string;
  readonly text: string;
  readonly mode: number;
}

/** Throws ConfigError when FireRunner could not start with these files. Nothing has to be written for that. */
export async function tryFiles(configFile: string, files: readonly NewFile[]): Promise<void> {
  await loadConfig({
    file: configFile,
    env: {},
    readFile: async (path) => files.find((file) => file.path === path) ?? (await readLocalFile(path)),
  });
}

/**
 * Writes all or none: whatever may fail for want of room or permission happens to files of other names first. The last is the
 * one that counts: a start before it sees the configuration that was there, or none.
 */
export async function writeFiles(files: readonly NewFile[]): Promise<void> {
  const ready: { temporary: string; path: string }[] = [];
  const made: string[] = [];
  try {
    for (const file of files) ready.push(await writeAside(file));
    for (const { temporary, path } of ready) {
      const isNew = !existsSync(path);
      await rename(temporary, path);
      if (isNew) made.push(path);
    }
    for (const directory of new Set(files.map(({ path }) => dirname(path)))) await syncPath(directory);
  } catch (cause) {
    for (const path of [...made, ...ready.map(({ temporary }) => temporary)]) await rm(path, { force: true });
    if (cause instanceof CliError) throw cause;
    throw cannotWrite(files[0]?.path ?? "", cause);
  }
}

async function writeAside({ path, text, mode }: NewFile): Promise<{ temporary: string; path: string }> {
  const temporary = `${path}.${randomUUID()}.new`;
  try {
    await makeDirectory(dirname(path), 0o755);
    await using file = await open(temporary, "wx", mode);
    await file.chmod(mode);
    await file.writeFile(text);
    await file.sync();
    return { temporary, path };
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw cannotWrite(path, cause);
  }
}

function cannotWrite(path: string, cause: unknown): CliError {
  return new CliError(
    "cli_init_file",
    `writing ${path} failed (${systemCode(cause) ?? describeError(cause)})`,
    {
      cause,
      hint: `The directory ${dirname(path)} must be writable for this user: use sudo, or name another place with --config FILE.`,
    },
  );
}
