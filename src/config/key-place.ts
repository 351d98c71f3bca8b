import { dirname, isAbsolute, join } from "node:path";
import { z } from "zod";
import { overlayEnvironment } from "./environment.ts";
import type { LoadOptions } from "./load.ts";
import { Settings } from "./schema.ts";
import { readLocalFile } from "./secret-file.ts";
import { parseSource } from "./source.ts";

const Tree = z.record(z.string(), z.unknown());
const KeyPlace = z.object({ webhook: z.object({ signingKeyFile: z.string().min(1) }) });

/**
 * The path of the file in which the hook's signing key belongs, whether it is there or not: it can be made before the whole
 * configuration, which asks for it, is read. Undefined when the key stands elsewhere, or the configuration cannot be read.
 */
export async function findSigningKeyFile(options: LoadOptions): Promise<string | undefined> {
  const tree = Tree.safeParse(await readTree(options));
  if (!tree.success) return undefined;
  const parsed = KeyPlace.safeParse(overlayEnvironment(Settings, tree.data, options.env).value);
  if (!parsed.success) return undefined;
  const path = parsed.data.webhook.signingKeyFile;
  return isAbsolute(path) ? path : join(options.file ? dirname(options.file) : ".", path);
}

async function readTree({ file, readFile = readLocalFile }: LoadOptions): Promise<unknown> {
  if (file === undefined) return {};
  const read = await readFile(file).catch(() => undefined);
  return read && parseSource(file, read.text).value;
}
