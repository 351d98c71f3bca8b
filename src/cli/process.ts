import { readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { runCli } from "./program.ts";

const PackageFile = z.object({ version: z.string() });

/** Runs the command line this process was started with. */
export async function runFromProcess(): Promise<number> {
  const root = join(import.meta.dirname, "../..");
  const { version } = PackageFile.parse(JSON.parse(readFileSync(join(root, "package.json"), "utf8")));
  return await runCli({
    argv: process.argv.slice(2),
    env: process.env,
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    version,
    executable: [process.execPath, join(root, "src/main.ts")],
  });
}
