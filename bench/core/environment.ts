import { readFileSync } from "node:fs";
import { availableParallelism, totalmem } from "node:os";
import { join } from "node:path";
import { run } from "../../src/base/process.ts";
import { formatMib } from "../../src/base/units.ts";

/** What the figures depend on and a reader has to know; nothing that tells one computer from another of its kind. */
export type Environment = readonly string[];

export async function describeEnvironment(accelerator: string | undefined): Promise<Environment> {
  const qemu = await run("qemu-system-x86_64", ["--version"]).then(
    (text) => /version (\d+\.\d+)/.exec(text)?.[1],
    () => undefined,
  );
  return [
    `${availableParallelism()} CPU cores, ${formatMib(Math.round(totalmem() / 1024 ** 3) * 1024)} of memory, shared with other work`,
    `Node.js ${process.versions.node}, FireRunner ${version()}`,
    ...(qemu && accelerator ? [`QEMU ${qemu}, accelerator: ${accelerator}`] : []),
  ];
}

function version(): string {
  const text = readFileSync(join(import.meta.dirname, "../../package.json"), "utf8");
  return String((JSON.parse(text) as { version: unknown }).version);
}
