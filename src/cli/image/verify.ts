import type { Command } from "commander";
import { formatBytes } from "../../base/units.ts";
import type { Context, Run } from "../context.ts";
import { exitCodes } from "../exit-codes.ts";
import { signalOnInterrupt } from "../interrupt.ts";
import { printError } from "../print-error.ts";
import { directoryOf, openImages, type Place, placeOption } from "./place.ts";

export function addImageVerify(image: Command, run: Run): void {
  image
    .command("verify")
    .description("read every byte of images again")
    .argument("[name]", "name or digest (default: all)")
    .option(...placeOption)
    .action(run<Place>(verify));
}

/** Looks at every image though one is bad; the first failure decides the exit code. */
async function verify(context: Context, [name]: readonly string[], place: Place): Promise<number> {
  const { output } = context;
  const directory = await directoryOf(context, place);
  const store = await openImages(directory);
  using interrupt = signalOnInterrupt();
  if (name !== undefined) {
    const { manifest, checkedBytes } = await store.verify(name, interrupt.signal);
    output.result({ name, ok: true, digest: manifest.digest, checkedBytes }, () =>
      output.line(`${name} is intact (${formatBytes(checkedBytes)} read)`),
    );
    return exitCodes.ok;
  }
  const results: { digest: string; ok: boolean }[] = [];
  for (const { names, manifest } of await store.list()) {
    const { digest } = manifest;
    const ok = await store.verify(digest, interrupt.signal).then(
      () => true,
      (error: unknown) => {
        interrupt.signal.throwIfAborted();
        printError(error, context);
        return false;
      },
    );
    results.push({ digest, ok });
    if (ok && !output.json) output.line(`${names.join(", ") || digest.slice(7, 19)} is intact`);
  }
  output.result(results, () => {
    if (results.length === 0)
      output.note(`There is no image in ${directory}: “firerunner image build” makes one.`);
  });
  return results.every(({ ok }) => ok) ? exitCodes.ok : exitCodes.failed;
}
