import { join } from "node:path";
import { run } from "../../src/base/process.ts";
import { testImageDirectory } from "../harness/image.ts";

/** Before any test of real machines: the image they boot. */
export default async function buildImage(): Promise<void> {
  await buildTestImage("base");
}

/** With the stand-in runner, or that of a path, under another name than the variant's. Quick when it is there already. */
export async function buildTestImage(
  variant: "base" | "containers" | "docker",
  { runner = "stand-in", name = variant as string } = {},
): Promise<void> {
  const main = join(import.meta.dirname, "../../src/main.ts");
  const directory = testImageDirectory();
  const args = ["image", "build", variant, "--name", name, "--runner", runner, "--directory", directory];
  await run(process.execPath, [main, ...args], { onStderrLine: (line) => console.error(line) });
}
