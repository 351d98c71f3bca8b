import { join } from "node:path";
import { run } from "../../src/base/process.ts";
import { testImageDirectory } from "../harness/image.ts";

/** Before any test of real machines: the image they boot, with the stand-in runner. Quick when it is there already. */
export default async function buildImage(): Promise<void> {
  const main = join(import.meta.dirname, "../../src/main.ts");
  await run(
    process.execPath,
    [main, "image", "build", "--runner", "stand-in", "--directory", testImageDirectory()],
    {
      onStderrLine: (line) => console.error(line),
    },
  );
}
