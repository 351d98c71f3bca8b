/**
 * Reads the configuration: the files (`source.ts`), the environment over them (`environment.ts`), the schema (`schema.ts`) with its refusals in
 * words (`problems.ts`), what the parts ask of each other (`cross-checks.ts`), and the secrets (`secrets.ts`) and hosts (`hosts.ts`) that
 * files hold. Either all of it is good, or one ConfigError lists everything that is wrong. `reload.ts` does it again while the daemon runs.
 */
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, isAbsolute, join } from "node:path";
import { z } from "zod";
import type { ProxyRoutes } from "../base/proxy/routes.ts";
import type { Secret } from "../base/secret.ts";
import { UntrustedError } from "../base/trusted-file.ts";
import type { S3Access } from "../cache/config.ts";
import type { NamedRegistry } from "../containers/config.ts";
import type { MachineKind, Pool } from "../domain/pool.ts";
import type { ApiSettings } from "../server/api/config.ts";
import type { MetricsSettings } from "../server/metrics/config.ts";
import type { TracesAccess } from "../telemetry/traces/config.ts";
import type { FlintlockHost } from "../vm/flintlock/config.ts";
import { readCacheAccess } from "./cache.ts";
import { readRegistries } from "./containers.ts";
import {
  crossChecks,
  type IgnoredValue,
  withoutIgnoredValues,
  withoutIgnoredVariables,
} from "./cross-checks.ts";
import { overlayEnvironment } from "./environment.ts";
import { ConfigError, type ConfigProblem } from "./errors.ts";
import { kindOfPool } from "./machine-kinds.ts";
import {
  type FileText,
  modeProblem,
  type ReadFile,
  readLocalFile,
  type SecretOptions,
  unreadable,
} from "./named-files.ts";
import { type PathProblem, wordIssues } from "./problems.ts";
import { proxyValues, readProxy } from "./proxy.ts";
import { Settings } from "./schema.ts";
import { readSecrets, type Webhook } from "./secrets.ts";
import { type Path, parseSource, type Source } from "./source.ts";
import { readTracesAccess } from "./traces.ts";
import { type ConfigValue, listValues } from "./values.ts";

/** The configuration in force: defaults filled in, secrets read, pools ready for use. */
export interface Config extends Omit<Settings, "pools" | "webhook" | "state" | "proxy" | "metrics" | "api"> {
  /** The file it was read from; undefined when the environment gave everything. */
  readonly file: string | undefined;
  readonly state: string;
  /** Its password is here and nowhere else. */
  readonly proxy: CompanyProxy;
  /** Those with a runner of their own. */
  readonly pools: ReadonlyMap<string, Pool>;
  /** What machines of each pool are, with and without a runner. */
  readonly kinds: ReadonlyMap<string, MachineKind>;
  /** Hosts of the flintlock driver, by name. Their secrets are here and nowhere else. */
  readonly hosts: ReadonlyMap<string, FlintlockHost>;
  /** The keys of `cache.s3`. */
  readonly cacheAccess: S3Access | undefined;
  /** Headers and authorities of `traces`; undefined without that. */
  readonly tracesAccess: TracesAccess | undefined;
  /** Registries of `containers`, with what their files hold. */
  readonly registries: ReadonlyMap<string, NamedRegistry>;
  /** Undefined when no jobs by tag are served. Its secrets are in `secrets` and nowhere else. */
  readonly webhook: Webhook | undefined;
  readonly metrics: MetricsSettings;
  readonly api: ApiSettings;
  /** Settings that are there and do nothing. Told of, never refused. */
  readonly notes: readonly ConfigNote[];
  /** Every setting with its origin, for `config show` and for the comparison on reload. */
  readonly values: readonly ConfigValue[];
}

/** What is in order and may not be what was meant, in words. */
interface ConfigNote {
  readonly problem: string;
  readonly hint: string;
}

/** A company's proxy, as it is in force. */
export interface CompanyProxy extends ProxyRoutes {
  /** Where `proxy.caFile` was found. */
  readonly caFile?: string | undefined;
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
  const { source, fileText } = await readSource(options.file, readFile);
  refuse(source.problems, options.file);

  const { overlay, value, ignored } = overlaid(asTree(source, options.file), options.env);
  const place = (path: Path) => placeOf(path, overlay.setBy, source) ?? options.file ?? "environment";
  const parsed = Settings.safeParse(value, { reportInput: true });
  const problems: ConfigProblem[] = [...overlay.problems];
  if (!parsed.success) {
    problems.push(...placed(wordIssues(Settings, parsed.error.issues, value), place));
    refuse(problems, options.file);
    throw new ConfigError("config_invalid", "the configuration cannot be used", { cause: parsed.error });
  }

  const secretOptions = secretOptionsOf(options, { readFile, fileText, setBy: overlay.setBy });
  const secrets = await readSecrets(parsed.data, secretOptions);
  const proxy = await readProxy(parsed.data.proxy, options.env, secretOptions);
  const registries = await readRegistries(parsed.data.containers.registries, secretOptions);
  const caches = await readCacheAccess(parsed.data.cache, secretOptions);
  const traces = await readTracesAccess(parsed.data.traces, secretOptions);
  const ofFiles = [secrets, proxy, registries, caches, traces].flatMap(({ problems }) => problems);
  const ofParts = [...crossChecks(parsed.data), ...ofFiles];
  refuse([...problems, ...placed(ofParts, place), ...proxy.ofEnvironment], options.file);

  const state = parsed.data.state ?? defaultState(options.env, isRoot(options));
  const { pools, webhook: _withSecretsInside, ...settings } = parsed.data;
  return {
    ...settings,
    file: options.file,
    state,
    gitlab: secrets.gitlab,
    proxy: { ...proxy.proxies, caFile: proxy.caFile },
    guests: secrets.guests,
    http: secrets.http,
    vm: withoutHosts(settings.vm),
    hosts: secrets.hosts,
    relay: secrets.relay,
    metrics: secrets.metrics,
    api: secrets.api,
    cacheAccess: caches.access,
    tracesAccess: traces.access,
    registries: registries.registries,
    webhook: secrets.webhook,
    pools: makePools(pools, secrets.tokens),
    kinds: new Map(Object.entries(pools).map(([name, pool]) => [name, kindOfPool(pool)])),
    notes: ignored.map((each) => noteOn(each, place)),
    values: [
      ...listValues(Settings, { ...parsed.data, state }, (path) => originOf(path, overlay.setBy, source)),
      ...proxyValues(parsed.data.proxy, proxy.proxies),
    ],
  };
}

/** What a command needs that looks at this computer only: nothing here depends on tokens or on GitLab. */
export interface LocalConfig extends Pick<Settings, "images" | "containers"> {
  readonly file: string | undefined;
  readonly state: string;
  readonly proxy: CompanyProxy;
  /** Those of `containers`, with what their files hold. */
  readonly registries: ReadonlyMap<string, NamedRegistry>;
}

const LocalSettings = Settings.pick({ state: true, images: true, containers: true, proxy: true }).strip();

/** Reads the state directory and what concerns images and their downloads, however unfinished the rest is. Throws ConfigError. */
export async function loadLocalConfig(options: LoadOptions): Promise<LocalConfig> {
  const readFile = options.readFile ?? readLocalFile;
  const { source, fileText } = await readSource(options.file, readFile);
  refuse(source.problems, options.file);
  const { overlay, value } = overlaid(asTree(source, options.file), options.env);
  const parsed = LocalSettings.safeParse(value);
  const place = (path: Path) => placeOf(path, overlay.setBy, source) ?? options.file ?? "environment";
  if (!parsed.success) {
    refuse(placed(wordIssues(Settings, parsed.error.issues, value), place), options.file);
    throw new ConfigError("config_invalid", "the configuration cannot be used", { cause: parsed.error });
  }
  const { state = defaultState(options.env, isRoot(options)), images, containers } = parsed.data;
  const secretOptions = secretOptionsOf(options, { readFile, fileText, setBy: overlay.setBy });
  const proxy = await readProxy(parsed.data.proxy, options.env, secretOptions);
  const { registries, problems } = await readRegistries(containers.registries, secretOptions);
  refuse([...placed([...proxy.problems, ...problems], place), ...proxy.ofEnvironment], options.file);
  const ways = { proxy: { ...proxy.proxies, caFile: proxy.caFile }, registries };
  return { file: options.file, state, images, containers, ...ways };
}

interface ReadSoFar {
  readonly readFile: ReadFile;
  readonly fileText: FileText | undefined;
  readonly setBy: ReadonlyMap<string, string>;
}

function secretOptionsOf(
  { file, env }: LoadOptions,
  { readFile, fileText, setBy }: ReadSoFar,
): SecretOptions {
  return {
    readFile,
    besideFile: file,
    credentialsDirectory: env["CREDENTIALS_DIRECTORY"],
    inlineProblem: (path) =>
      setBy.has(path.join(".")) || fileText === undefined || file === undefined
        ? undefined
        : modeProblem(file, fileText),
  };
}

/** The file's values with the environment's over them, without what does nothing. */
function overlaid(tree: Record<string, unknown>, env: NodeJS.ProcessEnv) {
  const variables = withoutIgnoredVariables(env);
  const overlay = overlayEnvironment(Settings, tree, variables.env);
  const { value, ignored } = withoutIgnoredValues(overlay.value);
  return { overlay, value, ignored: [...variables.ignored, ...ignored] };
}

function noteOn({ path, name, reason }: IgnoredValue, place: (path: Path) => string): ConfigNote {
  return {
    problem: `${name} ${reason}`,
    hint: path === undefined ? `unset ${name}` : `take it out: ${place(path)}`,
  };
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
): Promise<{ source: Source; fileText: FileText | undefined }> {
  if (file === undefined) return { source: parseSource("environment", ""), fileText: undefined };
  try {
    const fileText = await readFile(file);
    return { source: parseSource(file, fileText.text), fileText };
  } catch (cause) {
    const untrusted = cause instanceof UntrustedError ? cause : undefined;
    const why = untrusted?.message ?? unreadable(file, cause);
    throw new ConfigError("config_unreadable", `reading the configuration: ${why}`, {
      cause,
      hint:
        untrusted?.hint ??
        "Name the file with --config FILE or FIRERUNNER_CONFIG; docs/configuration.md has an example.",
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
  const places = prefixes(path).map((part) => source.locate(part));
  return setter(path, setBy) ?? places.find((place) => place !== undefined);
}

function originOf(path: Path, setBy: ReadonlyMap<string, string>, source: Source): string {
  return setter(path, setBy) ?? source.locate(path) ?? "default";
}

/** The variable that a value comes from, which may hold more than this value: what the file has there counts no more. */
function setter(path: Path, setBy: ReadonlyMap<string, string>): string | undefined {
  const variables = prefixes(path).map((part) => setBy.get(part.join(".")));
  return variables.find((variable) => variable !== undefined);
}

/** The path itself and all above it. */
function prefixes(path: Path): Path[] {
  return path.map((_, index) => path.slice(0, path.length - index));
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
  const size = { cpus: pool.size.cpus, memoryMib: pool.size.memory, diskMib };
  return { ...kind, name, origin: { kind: "configured" }, size, runnerToken };
}

/** Where the configuration is looked for when nobody names it, in this order. */
const DEFAULT_FILES = ["/etc/firerunner/config.yaml", "./firerunner.yaml"] as const;

/** The file to read: the one that was named, else the first default that exists, else undefined. */
export function findConfigFile(
  named: string | undefined,
  env: NodeJS.ProcessEnv,
  exists: (path: string) => boolean = existsSync,
): string | undefined {
  return named ?? (env["FIRERUNNER_CONFIG"] || undefined) ?? DEFAULT_FILES.find((file) => exists(file));
}

const Tree = z.record(z.string(), z.unknown());
const KeyPlace = z.object({ webhook: z.object({ signingKeyFile: z.string().min(1) }) });

/**
 * The path of the file in which the hook's signing key belongs, whether it is there or not: it can be made before the whole
 * configuration, which asks for it, is read. Undefined when the key stands elsewhere, or the configuration cannot be read.
 */
export async function findSigningKeyFile(options: LoadOptions): Promise<string | undefined> {
  const tree = Tree.safeParse(await readTree(options));
  if (!tree.success) return undefined;
  const parsed = KeyPlace.safeParse(overlayEnvironment(Settings, tree.data, options.env).value);
  if (!parsed.success) return undefined;
  const path = parsed.data.webhook.signingKeyFile;
  return isAbsolute(path) ? path : join(options.file ? dirname(options.file) : ".", path);
}

async function readTree({ file, readFile = readLocalFile }: LoadOptions): Promise<unknown> {
  if (file === undefined) return {};
  const read = await readFile(file).catch(() => undefined);
  return read && parseSource(file, read.text).value;
}
