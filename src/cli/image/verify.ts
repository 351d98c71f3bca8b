import type { Command } from "commander";
import { formatBytes } from "../../base/units.ts";
import { imageDirectory, rootNamed } from "../../image/config.ts";
import type { Context, Run } from "../context.ts";
import { CliError } from "../errors.ts";
import { exitCodes } from "../exit-codes.ts";
import { findHost, orderOf, runTrial } from "../hosts/trial.ts";
import { signalOnInterrupt } from "../interrupt.ts";
import { printError } from "../print-error.ts";
import { directoryOf, openImages, type Place, placeOption } from "./place.ts";

export function addImageVerify(image: Command, run: Run): void {
  image
    .command("verify")
    .description("read every byte of images again")
    .argument("[name]", "name or digest (default: all)")
    .option("--flintlock <host>", "boot it on this host too, and report the time until its guest is heard")
    .option(...placeOption)
    .action(run<Options>(async (context, names, options) => await verify(context, names, options)));
}

interface Options extends Place {
  readonly flintlock?: string;
}

async function verify(context: Context, names: readonly string[], options: Options): Promise<number> {
  const { flintlock, directory } = options;
  const [name] = names;
  if (flintlock === undefined) return await verifyFiles(context, names, options);
  if (name === undefined || directory !== undefined) {
    const hint = "firerunner image verify NAME --flintlock HOST";
    throw new CliError("cli_usage", "a boot is for one image of the configured directory", { hint });
  }
  const config = await context.loadConfig();
  const order = orderOf(await findHost(config, flintlock, {}), name);
  const { roots } = config.images;
  const store = await openImages(imageDirectory(config), roots);
  using interrupt = signalOnInterrupt();
  const { checkedBytes } = await store.verify(name, interrupt.signal);
  const subject = rootNamed(roots, name) ? `what boots ${name}` : name;
  if (!context.output.json) context.output.line(intact(subject, checkedBytes));
  return await runTrial(context, config, order);
}

function intact(name: string, checkedBytes: number): string {
  return `${name} is intact (${formatBytes(checkedBytes)} read)`;
}

/** Looks at every image though one is bad; the first failure decides the exit code. */
async function verifyFiles(context: Context, [name]: readonly string[], place: Place): Promise<number> {
  const { output } = context;
  const directory = await directoryOf(context, place);
  const store = await openImages(directory);
  using interrupt = signalOnInterrupt();
  if (name !== undefined) {
    const { manifest, checkedBytes } = await store.verify(name, interrupt.signal);
    output.result({ name, ok: true, digest: manifest.digest, checkedBytes }, () =>
      output.line(intact(name, checkedBytes)),
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
