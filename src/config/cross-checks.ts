/**
 * What the schema of one setting cannot say: what the parts of a configuration ask of each other, and settings of earlier releases that do
 * nothing. Those are taken out before the schema sees the configuration, so that an old file is still accepted, and each is told of. An
 * entry can go one release after it came.
 */
import { formatMib } from "../base/units.ts";
import { flintlockHosts, isRemoteDriver, preferredDriver } from "../domain/drivers.ts";
import { type Labels, missingLabel } from "../domain/placement.ts";
import { describeSize, type Size } from "../domain/size.ts";
import { rootNamed } from "../image/config.ts";
import { advertisedAddress } from "../relay/config.ts";
import { sizeProblemOf } from "../vm/config.ts";
import type { HostSettings } from "../vm/flintlock/config.ts";
import { nearest, type PathProblem } from "./problems.ts";
import type { Settings } from "./schema.ts";
import type { Path } from "./source.ts";

/** What the parts of a configuration, each acceptable by itself, ask of each other and do not have. */
export function crossChecks(settings: Settings): PathProblem[] {
  return [
    ...withoutWork(settings),
    ...poolsWithoutRunner(settings),
    ...unknownRulePools(settings),
    ...unprovenWebhooks(settings),
    ...machinesWithoutHost(settings),
    ...unworkableSizes(settings),
    ...rootsElsewhere(settings),
    ...unreachableRelay(settings),
    ...halfCertificate(settings),
  ];
}

function withoutWork({ pools, webhook }: Settings): PathProblem[] {
  if (webhook !== undefined || Object.keys(pools).length > 0) return [];
  return [
    {
      path: ["pools"],
      message:
        "no job could ever be found: add “pools” (a kind of machine with the token of a GitLab runner) or “webhook” (jobs by tag, with an API token)",
    },
  ];
}

function poolsWithoutRunner({ pools, webhook }: Settings): PathProblem[] {
  if (webhook !== undefined) return [];
  return Object.entries(pools)
    .filter(([, pool]) => pool.runner === undefined)
    .map(([name]) => ({
      path: ["pools", name],
      message: `pools.${name}.runner is missing: give runner.tokenFile (only with “webhook” may a pool be without, for its rules)`,
    }));
}

function unknownRulePools({ pools, webhook }: Settings): PathProblem[] {
  const known = Object.keys(pools);
  return (webhook?.rules ?? []).flatMap(({ pool }, index) => {
    if (pool === undefined || Object.hasOwn(pools, pool)) return [];
    const close = nearest(pool, known);
    const names = known.length === 0 ? "there are none" : `known are ${known.join(", ")}`;
    const message = `webhook.rules.${index}.pool names no pool: ${close ? `did you mean “${close}”?` : names}`;
    return [{ path: ["webhook", "rules", index, "pool"], message }];
  });
}

/** A public server that could prove no webhook would turn every one of them away. */
function unprovenWebhooks({ webhook, http }: Settings): PathProblem[] {
  if (webhook === undefined || http.listen.length === 0) return [];
  const { signingKey, signingKeyFile, token, tokenFile } = webhook;
  if ([signingKey, signingKeyFile, token, tokenFile].some((each) => each !== undefined)) return [];
  return [
    {
      path: ["webhook"],
      message:
        "http.listen is open and nothing could prove that a webhook comes from GitLab: add webhook.signingKeyFile (GitLab 19.0 or newer) or webhook.tokenFile",
    },
  ];
}

/** Every kind of machine that is configured whole, with where it stands. */
function machineKinds({ pools, webhook }: Settings) {
  const ofPools = Object.entries(pools).map(([name, pool]) => ({ path: ["pools", name], ...pool }));
  return webhook ? [...ofPools, { path: ["webhook", "machine"], ...webhook.machine }] : ofPools;
}

/** Pools and rules whose machines no host could take, whatever is free. */
function machinesWithoutHost(settings: Settings): PathProblem[] {
  const hosts = Object.values(settings.vm.flintlock.hosts).map(({ labels }) => labels);
  return machineKinds(settings).flatMap(({ path, driver, hostLabels }) => {
    const problem = hostProblem(driver, hostLabels, hosts);
    if (problem === undefined) return [];
    const [key, message] = problem;
    return [{ path: [...path, key], message: `${path.join(".")}.${key} can never be met: ${message}` }];
  });
}

/** Sizes that the driver has no machine of, and on a fleet those that none of its hosts could hold. */
function unworkableSizes({ pools, vm }: Settings): PathProblem[] {
  const hosts = Object.entries(vm.flintlock.hosts);
  return Object.entries(pools).flatMap(([name, { driver, size }]) => {
    const { cpus, memory: memoryMib, disk: diskMib } = size;
    const held = isRemoteDriver(driver) ? fleetProblem({ cpus, memoryMib, diskMib }, hosts) : undefined;
    const problem =
      sizeProblemOf(driver === "auto" ? preferredDriver() : driver, { cpus, memoryMib, diskMib }) ?? held;
    if (problem === undefined) return [];
    return [{ path: ["pools", name, "size"], message: `pools.${name}.size cannot work: ${problem}` }];
  });
}

function fleetProblem(size: Size, hosts: [string, HostSettings][]): string | undefined {
  const holds = hosts.some(([, { cpus, cpuOvercommit, memory, disk = Number.POSITIVE_INFINITY }]) => {
    return size.cpus <= Math.floor(cpus * cpuOvercommit) && size.memoryMib <= memory && size.diskMib <= disk;
  });
  if (holds || hosts.length === 0) return undefined;
  return `none of ${hosts.map(([name]) => name).join(", ")} in vm.flintlock.hosts has ${describeSize(size)} and ${formatMib(size.diskMib)} of disk`;
}

/** A root of other people lies in a registry, where hosts of a fleet alone find it. */
function rootsElsewhere(settings: Settings): PathProblem[] {
  const { webhook, images } = settings;
  const ofRules = (webhook?.rules ?? []).map(({ image }, index) => ({
    ...{ path: ["webhook", "rules", index], image, driver: webhook?.machine.driver },
  }));
  return [...machineKinds(settings), ...ofRules].flatMap(({ path: owner, image, driver }) => {
    if (image === undefined || isRemoteDriver(driver ?? "") || !rootNamed(images.roots, image)) return [];
    const path = [...owner, "image"];
    const message = `${path.join(".")} is ${image} of images.roots, which machines on this computer cannot boot: it needs driver: flintlock`;
    return [{ path, message }];
  });
}

function hostProblem(driver: string, wanted: Labels, hosts: readonly Labels[]): [string, string] | undefined {
  if (!isRemoteDriver(driver)) {
    if (Object.keys(wanted).length === 0) return undefined;
    return ["hostLabels", "this computer has no labels; they are for driver: flintlock"];
  }
  if (hosts.length === 0) return ["driver", "vm.flintlock.hosts names no host"];
  const missing = hosts.map((labels) => missingLabel(labels, wanted));
  if (missing.includes(undefined)) return undefined;
  return ["hostLabels", `no host in vm.flintlock.hosts has them all (${missing[0]} is missing)`];
}

/** Machines on other hosts find the relay over the network or not at all. */
function unreachableRelay({ relay, vm }: Settings): PathProblem[] {
  if (relay.listen.length === 0) {
    if (Object.keys(vm.flintlock.hosts).length === 0) return [];
    const message =
      "machines on other hosts (vm.flintlock.hosts) could not reach the relay: add relay.listen, such as [0.0.0.0:8444], and relay.advertise, this computer's address as they see it";
    return [{ path: [...flintlockHosts], message }];
  }
  if (advertisedAddress(relay) !== undefined) return [];
  const message = `relay.advertise is missing: of ${relay.listen.join(", ")} it cannot be told how machines on other hosts reach this computer; give host:port, such as firerunner.example.org:8444`;
  return [{ path: ["relay", "listen"], message }];
}

/** Shown to a GitLab that asks for it, which takes both. */
function halfCertificate({ gitlab }: Settings): PathProblem[] {
  const { clientCertificateFile: certificate, clientKeyFile: key } = gitlab;
  if ((certificate === undefined) === (key === undefined)) return [];
  const [given, missing] =
    certificate === undefined
      ? ["clientKeyFile", "clientCertificateFile"]
      : ["clientCertificateFile", "clientKeyFile"];
  return [{ path: ["gitlab", given ?? ""], message: `gitlab.${given} needs gitlab.${missing} beside it` }];
}

const PREFIX = "FIRERUNNER_";

interface IgnoredSetting {
  /** `*` stands for any name. */
  readonly path: readonly string[];
  readonly reason: string;
}

const ignoredSettings: readonly IgnoredSetting[] = [
  ["pools", "*", "executor"],
  ["webhook", "machine", "executor"],
].map((path) => ({
  path,
  reason:
    "is no setting any more: whether a job runs in containers is decided by what it names (“shell” is taken for containers.ignore: true)",
}));

/** What a setting of before stands for now. */
function meaning(value: unknown): { readonly containers: { readonly ignore: true } } | undefined {
  return value === "shell" ? { containers: { ignore: true } } : undefined;
}

/** A setting that the configuration has and that does nothing. */
export interface IgnoredValue {
  /** Where the value stands; undefined when an environment variable of its own set it. */
  readonly path: Path | undefined;
  /** What names it: the dotted path, or the variable. */
  readonly name: string;
  readonly reason: string;
}

/** The environment without variables that set what does nothing, and those variables. */
export function withoutIgnoredVariables(env: NodeJS.ProcessEnv): {
  readonly env: NodeJS.ProcessEnv;
  readonly ignored: readonly IgnoredValue[];
} {
  const kept = { ...env };
  const ignored = Object.keys(env).flatMap((name): IgnoredValue[] => {
    const setting = ignoredSettings.find(({ path }) => isVariableOf(path, name));
    if (!setting) return [];
    if (meaning(kept[name])) kept[name.replace(/EXECUTOR$/i, "CONTAINERS__IGNORE")] ??= "true";
    delete kept[name];
    return [{ path: undefined, name, reason: setting.reason }];
  });
  return { env: kept, ignored };
}

/** As in config/environment.ts: `__` goes one level down; case and single underscores do not count. */
function isVariableOf(path: readonly string[], name: string): boolean {
  if (!name.startsWith(PREFIX)) return false;
  const segments = name.slice(PREFIX.length).split("__");
  const plain = (text: string | undefined) => text?.replaceAll("_", "").toLowerCase();
  return (
    segments.length === path.length && path.every((key, at) => key === "*" || plain(segments[at]) === key)
  );
}

/** A copy of the values that were read without those that do nothing, and their paths. */
export function withoutIgnoredValues(value: Record<string, unknown>): {
  readonly value: Record<string, unknown>;
  readonly ignored: readonly IgnoredValue[];
} {
  const kept = structuredClone(value);
  const ignored = ignoredSettings.flatMap(({ path, reason }) =>
    takeOut(kept, path).map((found): IgnoredValue => ({ path: found, name: found.join("."), reason })),
  );
  return { value: kept, ignored };
}

function takeOut(tree: unknown, [key = "", ...deeper]: readonly string[]): string[][] {
  if (typeof tree !== "object" || tree === null || Array.isArray(tree)) return [];
  const map = tree as Record<string, unknown>;
  const keys = key === "*" ? Object.keys(map) : Object.hasOwn(map, key) ? [key] : [];
  if (deeper.length > 0)
    return keys.flatMap((each) => takeOut(map[each], deeper).map((path) => [each, ...path]));
  for (const each of keys) {
    const { containers } = meaning(map[each]) ?? {};
    if (containers) map["containers"] ??= containers;
    delete map[each];
  }
  return keys.map((each) => [each]);
}
