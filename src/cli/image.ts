import { join } from "node:path";
import type { Command } from "commander";
import { systemClock } from "../base/clock.ts";
import { formatBytes } from "../base/units.ts";
import type { BuildOptions } from "../image/build.ts";
import type { ImageStore, ListedImage } from "../image/store.ts";
import { createBuildScreen } from "./build-screen.ts";
import type { Context, Run } from "./context.ts";
import { exitCodes } from "./exit-codes.ts";
import { signalOnInterrupt } from "./interrupt.ts";
import { printError } from "./print-error.ts";
import { formatTable } from "./table.ts";
import { clockTime } from "./words.ts";

interface Place {
  readonly directory?: string;
}

interface BuildFlags extends Place {
  readonly name: string;
  readonly runner: string;
  readonly force?: boolean;
}

export function addImage(program: Command, run: Run): void {
  const image = program.command("image").description("what machines boot");
  const place = [
    "--directory <path>",
    "where images lie (default: images.directory, or images in the state directory)",
  ] as const;
  image
    .command("build")
    .description("build an image from this computer's package sources; quick when nothing has changed")
    .option("--name <name>", "its name, as pools use it", "base")
    .option("--runner <what>", "auto, official, stand-in, or the path of a gitlab-runner", "auto")
    .option("--force", "build everything anew, with the newest packages")
    .option(...place)
    .action(run<BuildFlags>(build));
  image
    .command("list")
    .description("images on this computer")
    .option(...place)
    .action(run<Place>(list));
  image
    .command("verify")
    .description("read every byte of images again")
    .argument("[name]", "name or digest (default: all)")
    .option(...place)
    .action(run<Place>(verify));
}

async function build(context: Context, _args: readonly string[], flags: BuildFlags): Promise<number> {
  const { output, stderr } = context;
  const { buildImage } = await import("../image/build.ts");
  const { images } = await context.loadLocalConfig();
  const directory = await directoryOf(context, flags);
  using interrupt = signalOnInterrupt();
  const screen = createBuildScreen(stderr);
  const options: BuildOptions = {
    directory,
    name: flags.name,
    config: images,
    runner: runnerChoice(flags.runner),
    ...(flags.force ? { force: true } : {}),
    clock: systemClock,
    signal: interrupt.signal,
  };
  const { manifest, built, notes } = await buildImage(options, screen.show).finally(screen.close);
  const { digest, suite, kernelVersion, runner } = manifest;
  output.result(
    { name: flags.name, directory, digest, built, suite, kernelVersion, runner: runner.kind, notes },
    () => {
      const state = built ? "built" : "nothing has changed";
      output.line(
        `image ${flags.name}: ${state}, ${digest.slice(0, 19)} (${suite}, Linux ${kernelVersion}) in ${directory}`,
      );
      for (const note of notes) output.line(output.paint("yellow", `! ${note}`));
    },
  );
  return exitCodes.ok;
}

function runnerChoice(text: string): BuildOptions["runner"] {
  if (text === "auto" || text === "official" || text === "stand-in") return { kind: text };
  return { kind: "path", path: text };
}

async function list(context: Context, _args: readonly string[], place: Place): Promise<undefined> {
  const { output } = context;
  const directory = await directoryOf(context, place);
  const images = await (await openImages(directory)).list();
  output.result(
    images.map(({ names, directory: path, bytes, manifest }) => ({
      names,
      path,
      bytes,
      ...summaryOf(manifest),
    })),
    () => {
      if (images.length === 0)
        output.note(`There is no image in ${directory}: “firerunner image build” makes one.`);
      const rows = images.map((each) => rowOf(each));
      for (const line of formatTable(
        ["NAME", "DIGEST", "SUITE", "KERNEL", "RUNNER", "SIZE", "BUILT"],
        rows,
      )) {
        output.line(line);
      }
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

function rowOf({ names, manifest, bytes }: ListedImage): string[] {
  const { digest, suite, kernelVersion, runner, createdAt } = manifest;
  return [
    names.join(", ") || "-",
    digest.replace("sha256:", "").slice(0, 12),
    suite,
    kernelVersion,
    `${runner.kind} ${runner.version}`,
    formatBytes(bytes),
    clockTime(createdAt),
  ];
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

/** Loaded only here: the other commands should start without what building an image takes. */
async function openImages(directory: string): Promise<ImageStore> {
  const { createImageStore } = await import("../image/store.ts");
  return createImageStore({ directory });
}

async function directoryOf(context: Context, { directory }: Place): Promise<string> {
  if (directory !== undefined) return directory;
  const { state, images } = await context.loadLocalConfig();
  return images.directory ?? join(state, "images");
}
