import type { Secret } from "../base/secret.ts";
import { isSameHost } from "./hosts.ts";
import type { Config } from "./load.ts";
import type { Webhook } from "./secrets.ts";
import type { ConfigValue } from "./values.ts";

/** What changed between two configurations, in words. */
interface ConfigDiff {
  /** Changes that a running FireRunner takes over at once. */
  readonly live: readonly string[];
  /** Changes that wait for the next start. */
  readonly restart: readonly string[];
}

/** Read anew each time they are used; everything else is given to its room once, at start. */
const livePaths: readonly string[] = [
  "pools",
  "log",
  "webhook",
  "http.allow",
  "http.trustedProxies",
  "http.unprovenPerMinute",
  "http.tls",
  "vm.flintlock.hosts",
  "images.roots",
];
/** Exceptions below the live ones: whose jobs are found and how, and under which name runners are found again, stay for a life. */
const restartPaths: readonly string[] = [
  "log.format",
  "webhook.group",
  "webhook.project",
  "webhook.instance",
  "webhook.installation",
  "webhook.url",
  "webhook.projects",
  "webhook.poll",
];

export function diffConfig(old: Config, next: Config): ConfigDiff {
  const live = [
    ...poolChanges(old, next),
    ...hostChanges(old, next),
    ...webhookSecretChanges(old.webhook, next.webhook),
  ];
  const restart = webhookComesOrGoes(old, next);
  const before = new Map(old.values.map((each) => [each.path.join("."), each]));
  const after = new Map(next.values.map((each) => [each.path.join("."), each]));
  for (const name of new Set([...before.keys(), ...after.keys()])) {
    const change = changeOf(name, before.get(name), after.get(name), old, next);
    if (change === undefined) continue;
    if (isLive(name)) live.push(change);
    else restart.push(`${change} (after a restart)`);
  }
  return { live, restart };
}

function poolChanges(old: Config, next: Config): string[] {
  const added = [...next.kinds.keys()].filter((name) => !old.kinds.has(name));
  const removed = [...old.kinds.keys()].filter((name) => !next.kinds.has(name));
  const kept = [...next.kinds.keys()].filter((name) => old.kinds.has(name));
  return [
    ...added.map((name) => `pool ${name} added`),
    ...removed.map((name) => `pool ${name} removed${old.pools.has(name) ? `: ${FADES_OUT}` : ""}`),
    ...kept.flatMap((name) => runnerChange(name, old, next)),
  ];
}

const FADES_OUT = "its jobs end as usual, no new ones are claimed";

function runnerChange(name: string, old: Config, next: Config): string[] {
  const before = old.pools.get(name)?.runnerToken;
  const after = next.pools.get(name)?.runnerToken;
  if (isSame(before, after)) return [];
  if (before === undefined) return [`pool ${name}: has a runner now`];
  if (after === undefined) return [`pool ${name}: has no runner any more; ${FADES_OUT}`];
  return [`pool ${name}: new runner token`];
}

/** Also when only the content of a host's files has changed. */
function hostChanges(old: Config, next: Config): string[] {
  const names = new Set([...old.hosts.keys(), ...next.hosts.keys()]);
  return [...names].flatMap((name) => {
    const [before, after] = [old.hosts.get(name), next.hosts.get(name)];
    if (before === undefined) return [`host ${name} added`];
    if (after === undefined)
      return [`host ${name} removed: its machines end as usual, no new ones are started`];
    return isSameHost(before, after) ? [] : [`host ${name} changed`];
  });
}

/** One line for a section that appears or disappears, in place of one for each of its settings. */
function webhookComesOrGoes(old: Config, next: Config): string[] {
  if ((old.webhook === undefined) === (next.webhook === undefined)) return [];
  return [`webhook ${next.webhook ? "added" : "removed"} (after a restart)`];
}

function webhookSecretChanges(old: Webhook | undefined, next: Webhook | undefined): string[] {
  if (old === undefined || next === undefined) return [];
  const [before, after] = [old.secrets, next.secrets];
  return [
    ...(isSame(before.apiToken, after.apiToken) ? [] : ["webhook: new API token"]),
    ...(areSame(before.signingKeys, after.signingKeys) ? [] : ["webhook: other signing tokens"]),
    ...(areSame(before.tokens, after.tokens) ? [] : ["webhook: other secret tokens"]),
  ];
}

function isSame(a: Secret | undefined, b: Secret | undefined): boolean {
  return a?.reveal() === b?.reveal();
}

/** In order: the first of them sets hooks up. */
function areSame(a: readonly Secret[], b: readonly Secret[]): boolean {
  return a.length === b.length && a.every((each, index) => isSame(each, b[index]));
}

function changeOf(
  name: string,
  before: ConfigValue | undefined,
  after: ConfigValue | undefined,
  old: Config,
  next: Config,
): string | undefined {
  const [root, pool = ""] = (before ?? after)?.path ?? [];
  if (root === "pools" && !(old.kinds.has(pool) && next.kinds.has(pool))) return undefined;
  if (root === "vm" && isOfHostThatComesOrGoes(before ?? after, old, next)) return undefined;
  if (root === "webhook" && !(old.webhook && next.webhook)) return undefined;
  const [from, to] = [show(before), show(after)];
  return from === to ? undefined : `${name}: ${from} → ${to}`;
}

/** `vm.flintlock.hosts.NAME.…`: told in one line. */
function isOfHostThatComesOrGoes(value: ConfigValue | undefined, old: Config, next: Config): boolean {
  const [, driver, hosts, name = ""] = value?.path ?? [];
  return driver === "flintlock" && hosts === "hosts" && !(old.hosts.has(name) && next.hosts.has(name));
}

function isLive(name: string): boolean {
  const isIn = (paths: readonly string[]) =>
    paths.some((path) => name === path || name.startsWith(`${path}.`));
  return isIn(livePaths) && !isIn(restartPaths);
}

function show(entry: ConfigValue | undefined): string {
  if (entry === undefined) return "not set";
  return typeof entry.value === "string" ? entry.value : JSON.stringify(entry.value);
}

/**
 * What is in force after a reload: `next`, with what waits for a restart as it was. So a room that reads the configuration anew
 * each time sees only what diff.ts calls live.
 */
export function mergeReloadable(running: Config, next: Config): Config {
  const { allow, trustedProxies, unprovenPerMinute, tls = running.http.tls } = next.http;
  return {
    ...next,
    state: running.state,
    gitlab: running.gitlab,
    vm: running.vm,
    relay: running.relay,
    http: { ...running.http, allow, trustedProxies, unprovenPerMinute, tls },
    webhook: webhookOf(running.webhook, next.webhook),
  };
}

function webhookOf(running: Config["webhook"], next: Config["webhook"]): Config["webhook"] {
  if (running === undefined || next === undefined) return running;
  const { group, project, instance, installation, url, projects, poll } = running;
  return { ...next, group, project, instance, installation, url, projects, poll };
}
