import { join } from "node:path";
import { run } from "../../src/base/process.ts";
import { testImageDirectory } from "../harness/image.ts";

/** Before any test of real machines: the image they boot. */
export default async function buildImage(): Promise<void> {
  await buildTestImage("base");
}

/** With the stand-in runner. Quick when it is there already. */
export async function buildTestImage(variant: "base" | "containers"): Promise<void> {
  const main = join(import.meta.dirname, "../../src/main.ts");
  const args = ["image", "build", variant, "--runner", "stand-in", "--directory", testImageDirectory()];
  await run(process.execPath, [main, ...args], { onStderrLine: (line) => console.error(line) });
}
