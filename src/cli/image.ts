/** `image list` and `image verify`; what is made, `build` and `push`, is in image/build.ts. */

import type { Command } from "commander";
import { systemClock } from "../base/clock.ts";
import { silentLog } from "../base/log.ts";
import { formatBytes, formatDuration } from "../base/units.ts";
import type { BootImage } from "../domain/images.ts";
import { imageDirectory, rootNamed } from "../image/config.ts";
import { runsContainers } from "../image/packages.ts";
import type { ListedImage } from "../image/store.ts";
import { type Context, type Run, signalOnInterrupt } from "./context.ts";
import { CliError, exitCodes } from "./errors.ts";
import { findHost, orderOf, runTrial } from "./hosts/check.ts";
import { addImageBuild, addImagePush } from "./image/build.ts";
import { addImageCache } from "./image/cache.ts";
import { directoryOf, openImages, type Place, placeOption } from "./image/place.ts";
import { clockTime } from "./messages.ts";
import { printError } from "./output.ts";

export function addImage(program: Command, run: Run): void {
  const image = program.command("image").description("what machines boot, and images that jobs name");
  addImageBuild(image, run);
  addImageList(image, run);
  addImageVerify(image, run);
  addImagePush(image, run);
  addImageCache(image, run);
}

function addImageList(image: Command, run: Run): void {
  image
    .command("list")
    .description("images on this computer, and where they have been pushed")
    .option(...placeOption)
    .action(run<Place>(list));
}

const columns = [
  { title: "NAME", cut: 12 },
  { title: "DIGEST" },
  { title: "SUITE", spare: 2 },
  { title: "KERNEL", cut: 12, spare: 1 },
  { title: "RUNNER" },
  { title: "SIZE" },
  { title: "BUILT", spare: 3 },
  { title: "PUSHED TO", below: true },
];

async function list(context: Context, _args: readonly string[], place: Place): Promise<undefined> {
  const { output } = context;
  const directory = await directoryOf(context, place);
  const images = await (await openImages(directory)).list();
  output.result(
    images.map(({ names, directory: path, bytes, manifest, publications }) => ({
      names,
      path,
      bytes,
      ...summaryOf(manifest),
      publications: publications.map(({ ca: _long, ...rest }) => rest),
    })),
    () => {
      if (images.length === 0)
        output.note(`There is no image in ${directory}: “firerunner image build” makes one.`);
      const rows = images.map((each) => rowOf(each));
      output.table(columns, rows);
    },
  );
  return undefined;
}

function summaryOf({
  digest,
  suite,
  architecture,
  kernelVersion,
  runner,
  createdAt,
}: ListedImage["manifest"]) {
  return {
    digest,
    suite,
    architecture,
    kernelVersion,
    runner: { kind: runner.kind, version: runner.version },
    createdAt,
  };
}

function rowOf({ names, manifest, bytes, publications }: ListedImage): string[] {
  const { digest, suite, kernelVersion, runner, createdAt } = manifest;
  return [
    names.join(", ") || "-",
    digest.replace("sha256:", "").slice(0, 12),
    suite,
    kernelVersion,
    `${runner.kind} ${runner.version}`,
    formatBytes(bytes),
    clockTime(createdAt),
    publications.map(({ registry, name }) => `${registry}/${name}`).join(", ") || "-",
  ];
}

function addImageVerify(image: Command, run: Run): void {
  image
    .command("verify")
    .description(
      "read every byte of images again; one that runs containers, if it is named, also runs a job in one",
    )
    .argument("[name]", "name or digest (default: all)")
    .option("--no-boot", "do not boot an image that runs containers")
    .option("--flintlock <host>", "boot it on this host too, and report the time until its guest is heard")
    .option(...placeOption)
    .action(run<VerifyFlags>(async (context, names, options) => await verify(context, names, options)));
}

interface VerifyFlags extends Place {
  readonly boot: boolean;
  readonly flintlock?: string;
}

async function verify(context: Context, names: readonly string[], options: VerifyFlags): Promise<number> {
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

/** Loaded only here: reading files takes no driver. */
async function tryJob(name: string, image: BootImage, signal: AbortSignal): Promise<number> {
  const { tryContainerJob } = await import("../operations/image-trial.ts");
  return await tryContainerJob({ name, image, clock: systemClock, log: silentLog }, signal);
}

/** Looks at every image though one is bad; the first failure decides the exit code. */
async function verifyFiles(context: Context, [name]: readonly string[], flags: VerifyFlags): Promise<number> {
  const { output } = context;
  const directory = await directoryOf(context, flags);
  const store = await openImages(directory);
  using interrupt = signalOnInterrupt();
  if (name !== undefined) {
    const { image, manifest, checkedBytes } = await store.verify(name, interrupt.signal);
    const triesJob = flags.boot && runsContainers(manifest.variant);
    if (!output.json) output.line(intact(name, checkedBytes));
    const jobMs = triesJob ? await tryJob(name, image, interrupt.signal) : undefined;
    output.result({ name, ok: true, digest: manifest.digest, checkedBytes, jobMs }, () => {
      if (jobMs !== undefined)
        output.line(`${name} ran a job in a container, ${formatDuration(jobMs)} after its machine was made`);
    });
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
