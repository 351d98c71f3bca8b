/** `image cache`: images that jobs name, on this computer. */
import type { Command } from "commander";
import { Option } from "commander";
import { systemClock } from "../../base/clock.ts";
import { DAY_MS, formatBytes, formatDuration } from "../../base/units.ts";
import type { LocalConfig } from "../../config/load.ts";
import { imageCacheOptions } from "../../containers/config.ts";
import type { ImageProgress, JobImages, PreparedImage } from "../../containers/job-images.ts";
import { parseImageName } from "../../containers/reference.ts";
import { type PullPolicy, pullPolicies } from "../../containers/resolve.ts";
import { type Context, type Run, signalOnInterrupt } from "../context.ts";
import { CliError, exitCodes } from "../errors.ts";
import { clockTime, counted } from "../messages.ts";

export function addImageCache(image: Command, run: Run): void {
  const cache = image.command("cache").description("images that jobs name, as disks for their machines");
  cache.command("list").description("what is here, the last used first").action(run(list));
  cache
    .command("pull")
    .description("fetch images, so that no job waits for them")
    .argument("<names...>", "as jobs name them, such as node:24 or registry.example.org/team/tool:1")
    .addOption(
      new Option("--policy <policy>", "when the registry is asked").choices(pullPolicies).default("always"),
    )
    .action(run<PullFlags>(pull));
  cache
    .command("prune")
    .description("remove what no machine uses")
    .option("--unused-days <days>", "only what was not used for so many days")
    .action(run<PruneFlags>(prune));
  cache
    .command("verify")
    .description("read every byte again, and remove what is damaged")
    .action(run(verify));
}

/** Somebody waits, and can ask again. */
const PATIENCE_MS = 20_000;

interface PullFlags {
  readonly policy: PullPolicy;
}

interface PruneFlags {
  readonly unusedDays?: string;
}

async function withImages<T>(
  context: Context,
  use: (images: JobImages, config: LocalConfig) => Promise<T>,
): Promise<T> {
  const config = await context.loadLocalConfig();
  const { openJobImages } = await import("../../containers/job-images.ts");
  const images = await openJobImages({ ...imageCacheOptions(config), clock: systemClock });
  try {
    return await use(images, config);
  } finally {
    await images.close();
  }
}

/** As they are kept, each with what the operator wrote. What is no name of an image is told by whoever fetches it. */
function warmNames(warm: readonly string[]): ReadonlyMap<string, string> {
  return new Map(
    warm.map((given) => {
      try {
        return [parseImageName(given).name, given];
      } catch {
        return [given, given];
      }
    }),
  );
}

const columns = [
  { title: "NAME", below: true },
  { title: "DIGEST" },
  { title: "SIZE" },
  { title: "LAST USED", spare: 1 },
  { title: "MACHINES" },
  { title: "WARM" },
];

async function list(context: Context): Promise<undefined> {
  const { output } = context;
  await withImages(context, async ({ keeper }, { images: { warm } }) => {
    const kept = warmNames(warm);
    const disks = keeper.disks();
    const usedBytes = keeper.usedBytes();
    const images = disks.map(({ key, name, manifest, bytes, usedAt, pinnedBy }) => ({
      ...{ name, digest: manifest, bytes, usedAt, machines: pinnedBy, path: keeper.pathOf("disk", key) },
      warm: kept.has(name),
    }));
    output.result({ usedBytes, images }, () => {
      output.table(
        columns,
        images.map(({ name, digest, bytes, usedAt, machines, warm: isWarm }) => [
          ...[name, digest.slice(7, 19), formatBytes(bytes), clockTime(usedAt), String(machines)],
          isWarm ? "yes" : "",
        ]),
      );
      for (const [name, given] of kept)
        if (!images.some((image) => image.name === name))
          output.line(output.paint("yellow", `! ${given} (images.warm) is not here`));
      output.note(`${counted(disks.length, "image")}; with their layers ${formatBytes(usedBytes)} in use.`);
    });
  });
  return undefined;
}

async function pull(context: Context, names: readonly string[], { policy }: PullFlags): Promise<number> {
  const { output } = context;
  using interrupt = signalOnInterrupt();
  const { signal } = interrupt;
  await withImages(context, async (images) => {
    const wants = names.map((name) => ({ name, policy, isTrusted: true }));
    const given = { signal, onProgress: teller(context), patienceMs: PATIENCE_MS };
    const prepared = await images.prepare(wants, given);
    output.result(prepared, () => {
      for (const image of prepared) output.line(inWords(image));
    });
  });
  return exitCodes.ok;
}

/** Each phase of each image once, while it goes on. */
function teller({ output }: Context): (progress: ImageProgress) => void {
  const told = new Set<string>();
  return ({ reference, phase, bytes, problem }) => {
    if (phase === "resolve" || told.has(`${phase} ${reference}`)) return;
    told.add(`${phase} ${reference}`);
    output.note(
      phase === "wait"
        ? `${problem}; trying again`
        : phase === "fetch"
          ? `fetching ${reference} (${formatBytes(bytes?.total ?? 0)})`
          : `making the disk of ${reference}`,
    );
  };
}

function inWords({ reference, digest, sizeBytes, fetchedBytes, tookMs, isFromCache }: PreparedImage): string {
  const how = isFromCache
    ? "was here"
    : `${fetchedBytes > 0 ? `fetched ${formatBytes(fetchedBytes)}` : "all layers were here"} in ${formatDuration(tookMs)}`;
  return `${reference}: ${digest.slice(0, 19)}, ${how}, a disk of ${formatBytes(sizeBytes)}`;
}

async function prune(context: Context, _args: readonly string[], flags: PruneFlags): Promise<undefined> {
  const { output } = context;
  const days = Number(flags.unusedDays ?? 0);
  if (!(Number.isInteger(days) && days >= 0 && days <= 10_000))
    throw new CliError("cli_usage", `“${flags.unusedDays}” is no number of days`, {
      hint: "Give a whole number, such as --unused-days 14.",
    });
  await withImages(context, async ({ keeper }) => {
    const removed = keeper.prune(days * DAY_MS);
    output.result({ ...removed, usedBytes: keeper.usedBytes() }, () => {
      output.line(
        `removed ${counted(removed.files, "file")}, ${formatBytes(removed.bytes)}; ${formatBytes(keeper.usedBytes())} are left`,
      );
    });
  });
  return undefined;
}

async function verify(context: Context): Promise<number> {
  const { output } = context;
  using interrupt = signalOnInterrupt();
  return await withImages(context, async ({ keeper }) => {
    const { checkedBytes, damaged } = await keeper.verify(interrupt.signal);
    output.result({ ok: damaged.length === 0, checkedBytes, damaged }, () => {
      for (const path of damaged) output.line(output.paint("red", `${path} was damaged, and is removed`));
      const state =
        damaged.length === 0 ? "all of it is intact" : "what is missing now is fetched when a job needs it";
      output.line(`${formatBytes(checkedBytes)} read: ${state}`);
    });
    return damaged.length === 0 ? exitCodes.ok : exitCodes.failed;
  });
}
