/** `cache`: what jobs keep for later ones, in the directory or on the S3 server that the configuration names. */
import type { Command } from "commander";
import { systemClock } from "../base/clock.ts";
import { DAY_MS, formatBytes } from "../base/units.ts";
import { cacheDirectory } from "../cache/config.ts";
import { openCacheStorage } from "../cache/open-storage.ts";
import type { Realm } from "../cache/rights.ts";
import type { CacheEntry, CacheFilter, CacheStorage } from "../cache/storage.ts";
import type { Config } from "../config/load.ts";
import { type Context, type Run, signalOnInterrupt } from "./context.ts";
import { CliError } from "./errors.ts";
import { clockTime, counted } from "./messages.ts";

export function addCache(program: Command, run: Run): void {
  const cache = program
    .command("cache")
    .description("what jobs keep for later ones (“cache:” in .gitlab-ci.yml)");
  cache
    .command("list")
    .description("what is there, the last used first")
    .option("--project <id>", "only of this project of GitLab's")
    .action(run<ListFlags>(list));
  cache
    .command("prune")
    .description("remove caches; jobs that miss them make them anew")
    .option("--project <id>", "only of this project of GitLab's")
    .option("--unused-days <days>", "only what no job stored or fetched for so many days")
    .option("--all", "all of them")
    .action(run<PruneFlags>(prune));
}

interface ListFlags {
  readonly project?: string;
}

interface PruneFlags extends ListFlags {
  readonly unusedDays?: string;
  readonly all?: boolean;
}

interface Opened {
  readonly storage: CacheStorage;
  /** The directory, or the server with its bucket. */
  readonly where: string;
  readonly signal: AbortSignal;
}

async function withStorage(context: Context, use: (opened: Opened) => Promise<void>): Promise<undefined> {
  const config = await context.loadConfig();
  const { cache, cacheAccess: access, state, proxy: proxies, gitlab } = config;
  const where = { cache, access, state, proxies, gitlabUrl: gitlab.url, clock: systemClock };
  const storage = await openCacheStorage(where);
  using interrupt = signalOnInterrupt();
  try {
    await use({ storage, where: placeOf(config), signal: interrupt.signal });
  } finally {
    await storage.close();
  }
  return undefined;
}

function placeOf(config: Config): string {
  const { s3 } = config.cache;
  return s3 ? `${s3.endpoint.replace(/\/$/, "")}/${s3.bucket}/${s3.prefix}` : cacheDirectory(config);
}

/** Whose they are, in a word. */
const branches: Readonly<Record<Realm, string>> = {
  protected: "protected",
  unprotected: "others",
  shared: "all",
};

const columns = [
  { title: "KEY" },
  { title: "PROJECT" },
  { title: "BRANCHES", spare: 1 },
  { title: "SIZE" },
  { title: "STORED", spare: 2 },
  { title: "LAST USED" },
];

async function list(context: Context, _args: readonly string[], { project }: ListFlags): Promise<undefined> {
  const { output } = context;
  const filter = { projectId: projectIdOf(project) };
  return await withStorage(context, async ({ storage, where, signal }) => {
    const entries = await storage.list(filter, signal);
    const usedBytes = entries.reduce((sum, { bytes }) => sum + bytes, 0);
    output.result({ where, usedBytes, caches: entries.map(asJson) }, () => {
      output.table(columns, entries.map(asRow));
      output.note(`${counted(entries.length, "cache")} with ${formatBytes(usedBytes)} in ${where}.`);
    });
  });
}

function asJson({ id, key, bytes, storedAt, usedAt }: CacheEntry) {
  const { projectId: project, realm, digest } = id;
  return {
    project,
    branches: branches[realm],
    key: key ?? null,
    digest,
    bytes,
    storedAt,
    usedAt: usedAt ?? null,
  };
}

function asRow({ id, key, bytes, storedAt, usedAt }: CacheEntry): string[] {
  const { projectId, realm, digest } = id;
  return [
    ...[key ?? `(hashed) ${digest.slice(0, 12)}`, String(projectId), branches[realm], formatBytes(bytes)],
    ...[clockTime(storedAt), usedAt === undefined ? "-" : clockTime(usedAt)],
  ];
}

async function prune(context: Context, _args: readonly string[], flags: PruneFlags): Promise<undefined> {
  const { output } = context;
  const filter = filterOf(flags);
  return await withStorage(context, async ({ storage, where, signal }) => {
    const entries = await storage.list(filter, signal);
    for (const entry of entries) {
      signal.throwIfAborted();
      await storage.remove(entry, signal);
    }
    const bytes = entries.reduce((sum, each) => sum + each.bytes, 0);
    output.result({ where, removed: entries.length, bytes }, () => {
      output.line(`removed ${counted(entries.length, "cache")}, ${formatBytes(bytes)}, from ${where}`);
    });
  });
}

function filterOf({ project, unusedDays, all = false }: PruneFlags): CacheFilter {
  if (!all && project === undefined && unusedDays === undefined)
    throw new CliError("cli_usage", "it is not said which caches are to be removed", {
      hint: "Give --unused-days 30, --project ID, or --all.",
    });
  const projectId = projectIdOf(project);
  if (unusedDays === undefined) return { projectId };
  const days = Number(unusedDays);
  if (!(Number.isInteger(days) && days >= 0 && days <= 10_000))
    throw new CliError("cli_usage", `“${unusedDays}” is no number of days`, {
      hint: "Give a whole number, such as --unused-days 30.",
    });
  return { projectId, unusedSince: systemClock.now() - days * DAY_MS };
}

function projectIdOf(text: string | undefined): number | undefined {
  if (text === undefined || /^[1-9]\d{0,14}$/.test(text))
    return text === undefined ? undefined : Number(text);
  throw new CliError("cli_usage", `“${text}” is no id of a project`, {
    hint: "Give the number that GitLab shows on the project's page, such as --project 42.",
  });
}
