import { homedir } from "node:os";
import { join } from "node:path";
import type { Secret } from "../base/secret.ts";
import type { MachineKind, Pool } from "../lifecycle/pool.ts";
import type { FlintlockHost } from "../vm/flintlock/host.ts";
import { disagreements } from "./agreement.ts";
import { overlayEnvironment } from "./environment.ts";
import { ConfigError, type ConfigProblem } from "./errors.ts";
import { kindOfPool } from "./machine-kinds.ts";
import { type PathProblem, wordIssues } from "./problems.ts";
import { Settings } from "./schema.ts";
import { modeProblem, type ReadFile, readLocalFile, unreadable } from "./secret-file.ts";
import { readSecrets, type Webhook } from "./secrets.ts";
import { type Path, parseSource, type Source } from "./source.ts";
import { type ConfigValue, listValues } from "./values.ts";

/** The configuration in force: defaults filled in, secrets read, pools ready for use. */
export interface Config extends Omit<Settings, "pools" | "webhook" | "state"> {
  /** The file it was read from; undefined when the environment gave everything. */
  readonly file: string | undefined;
  readonly state: string;
  /** Those with a runner of their own. */
  readonly pools: ReadonlyMap<string, Pool>;
  /** What machines of each pool are, with and without a runner. */
  readonly kinds: ReadonlyMap<string, MachineKind>;
  /** Hosts of the flintlock driver, by name. Their secrets are here and nowhere else. */
  readonly hosts: ReadonlyMap<string, FlintlockHost>;
  /** Undefined when no jobs by tag are served. Its secrets are in `secrets` and nowhere else. */
  readonly webhook: Webhook | undefined;
  /** Every setting with its origin, for `config show` and for the comparison on reload. */
  readonly values: readonly ConfigValue[];
}

export interface LoadOptions {
  readonly file?: string | undefined;
  readonly env: NodeJS.ProcessEnv;
  readonly readFile?: ReadFile;
  /** True when this process is root: decides the default state directory. */
  readonly root?: boolean;
}

/** Throws ConfigError with everything that is wrong, each with its place. */
export async function loadConfig(options: LoadOptions): Promise<Config> {
  const readFile = options.readFile ?? readLocalFile;
  const { source, mode } = await readSource(options.file, readFile);
  refuse(source.problems, options.file);

  const overlay = overlayEnvironment(Settings, asTree(source, options.file), options.env);
  const place = (path: Path) => placeOf(path, overlay.setBy, source) ?? options.file ?? "environment";
  const parsed = Settings.safeParse(overlay.value, { reportInput: true });
  const problems: ConfigProblem[] = [...overlay.problems];
  if (!parsed.success) {
    problems.push(...placed(wordIssues(Settings, parsed.error.issues, overlay.value), place));
    refuse(problems, options.file);
    throw new ConfigError("config_invalid", "the configuration cannot be used", { cause: parsed.error });
  }

  const secrets = await readSecrets(parsed.data, {
    readFile,
    besideFile: options.file,
    credentialsDirectory: options.env["CREDENTIALS_DIRECTORY"],
    inlineProblem: (path) =>
      overlay.setBy.has(path.join(".")) || mode === undefined || options.file === undefined
        ? undefined
        : modeProblem(options.file, mode),
  });
  refuse([...problems, ...placed([...disagreements(parsed.data), ...secrets.problems], place)], options.file);

  const state = parsed.data.state ?? defaultState(options.env, isRoot(options));
  const { pools, webhook: _withSecretsInside, ...settings } = parsed.data;
  return {
    ...settings,
    file: options.file,
    state,
    http: secrets.http,
    vm: withoutHosts(settings.vm),
    hosts: secrets.hosts,
    relay: secrets.relay,
    webhook: secrets.webhook,
    pools: makePools(pools, secrets.tokens),
    kinds: new Map(Object.entries(pools).map(([name, pool]) => [name, kindOfPool(pool)])),
    values: listValues(Settings, { ...parsed.data, state }, (path) => originOf(path, overlay.setBy, source)),
  };
}

/** What a command needs that looks at this computer only: nothing here depends on tokens or on GitLab. */
export interface LocalConfig extends Pick<Settings, "images"> {
  readonly file: string | undefined;
  readonly state: string;
}

const LocalSettings = Settings.pick({ state: true, images: true }).strip();

/** Reads the state directory and what concerns images, however unfinished the rest is. Throws ConfigError. */
export async function loadLocalConfig(options: LoadOptions): Promise<LocalConfig> {
  const { source } = await readSource(options.file, options.readFile ?? readLocalFile);
  refuse(source.problems, options.file);
  const overlay = overlayEnvironment(Settings, asTree(source, options.file), options.env);
  const parsed = LocalSettings.safeParse(overlay.value);
  if (!parsed.success) {
    const place = (path: Path) => placeOf(path, overlay.setBy, source) ?? options.file ?? "environment";
    refuse(placed(wordIssues(Settings, parsed.error.issues, overlay.value), place), options.file);
    throw new ConfigError("config_invalid", "the configuration cannot be used", { cause: parsed.error });
  }
  const { state = defaultState(options.env, isRoot(options)), images } = parsed.data;
  return { file: options.file, state, images };
}

function withoutHosts(vm: Settings["vm"]): Settings["vm"] {
  return { ...vm, flintlock: { ...vm.flintlock, hosts: {} } };
}

function isRoot({ root }: LoadOptions): boolean {
  return root ?? process.getuid?.() === 0;
}

/** Seen by people as one state directory; root's is where a service's belongs. */
export function defaultState(env: NodeJS.ProcessEnv, root: boolean): string {
  if (root) return "/var/lib/firerunner";
  return join(env["XDG_STATE_HOME"] || join(env["HOME"] || homedir(), ".local", "state"), "firerunner");
}

async function readSource(
  file: string | undefined,
  readFile: ReadFile,
): Promise<{ source: Source; mode: number | undefined }> {
  if (file === undefined) return { source: parseSource("environment", ""), mode: undefined };
  try {
    const { text, mode } = await readFile(file);
    return { source: parseSource(file, text), mode };
  } catch (cause) {
    throw new ConfigError("config_unreadable", `reading the configuration: ${unreadable(file, cause)}`, {
      cause,
      hint: "Name the file with --config FILE or FIRERUNNER_CONFIG; docs/configuration.md has an example.",
    });
  }
}

function asTree(source: Source, file: string | undefined): Record<string, unknown> {
  const value = source.value ?? {};
  if (typeof value === "object" && !Array.isArray(value)) return value as Record<string, unknown>;
  refuse([{ where: `${file}:1:1`, message: "the file must be a map of keys, such as “pools:”" }], file);
  return {};
}

function placed(problems: readonly PathProblem[], place: (path: Path) => string): ConfigProblem[] {
  return problems.map(({ path, message }) => ({ where: place(path), message }));
}

function refuse(problems: readonly ConfigProblem[], file: string | undefined): void {
  if (problems.length === 0) return;
  const lines = problems.map(({ where, message }) => `  ${where}: ${message}`);
  const count = problems.length === 1 ? "a problem" : `${problems.length} problems`;
  throw new ConfigError("config_invalid", `the configuration has ${count}:\n${lines.join("\n")}`, {
    problems,
    hint: `Correct ${file ?? "the environment"} and try “firerunner config check”; every key is in docs/configuration.md.`,
  });
}

/** Where to point for `path`: the variable or the line that set it, or the nearest thing above it that exists. */
function placeOf(path: Path, setBy: ReadonlyMap<string, string>, source: Source): string | undefined {
  for (let length = path.length; length > 0; length--) {
    const part = path.slice(0, length);
    const found = setBy.get(part.join(".")) ?? source.locate(part);
    if (found) return found;
  }
  return undefined;
}

function originOf(path: Path, setBy: ReadonlyMap<string, string>, source: Source): string {
  for (let length = path.length; length > 0; length--) {
    const variable = setBy.get(path.slice(0, length).join("."));
    if (variable) return variable;
  }
  return source.locate(path) ?? "default";
}

function makePools(pools: Settings["pools"], tokens: ReadonlyMap<string, Secret>): ReadonlyMap<string, Pool> {
  return new Map(
    Object.entries(pools).flatMap(([name, pool]) => {
      const runnerToken = tokens.get(name);
      return runnerToken ? [[name, poolOf(name, pool, runnerToken)] as const] : [];
    }),
  );
}

function poolOf(name: string, pool: Settings["pools"][string], runnerToken: Secret): Pool {
  const { diskMib, ...kind } = kindOfPool(pool);
  return { ...kind, name, size: { cpus: pool.size.cpus, memoryMib: pool.size.memory, diskMib }, runnerToken };
}
