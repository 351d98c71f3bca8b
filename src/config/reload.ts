/**
 * What a reload changes. Each key says so itself, by `reload` in its schema's `.meta()` (or its section's): `mergeReloadable` makes
 * the configuration that is in force afterwards, `diffConfig` tells what changed, and both follow those marks, as does the column
 * of docs/configuration.md. A section that may be left out (`webhook`, `http.tls`) comes and goes by its own mark, whatever its keys say.
 */

import type { z } from "zod";
import type { Secret } from "../base/secret.ts";
import { remoteDrivers } from "../domain/drivers.ts";
import type { TracesAccess } from "../telemetry/traces/config.ts";
import { isSameHost } from "./hosts.ts";
import type { Config } from "./load.ts";
import { fieldsOf, isOptional, metaOf, type ReloadMark, Settings, valuesOf } from "./schema.ts";
import type { Webhook } from "./secrets.ts";
import type { ConfigValue } from "./values.ts";

type Schema = z.core.$ZodType;
type Tree = Readonly<Record<string, unknown>>;

/** What is in force after a reload: `next`, with everything that waits for a restart as it is in `running`. */
export function mergeReloadable(running: Config, next: Config): Config {
  const sections = mergeFields(Settings, asTree(running), asTree(next), undefined);
  return { ...(sections as unknown as Config), values: mergeValues(running.values, next.values) };
}

/** `next`, with those fields of the schema that are not live as they are in `running`. */
function mergeFields(schema: Schema, running: Tree, next: Tree, above: ReloadMark | undefined): Tree {
  const fields = [...(fieldsOf(schema) ?? [])].filter(([key]) => key in running || key in next);
  const merged = fields.map(([key, field]) => [key, mergeField(field, running[key], next[key], above)]);
  return { ...next, ...Object.fromEntries(merged) };
}

function mergeField(schema: Schema, running: unknown, next: unknown, above: ReloadMark | undefined): unknown {
  const [mark, ...others] = marksWithin(schema, above);
  if (others.length === 0) return mark === "live" ? next : running;
  const own = metaOf(schema).reload ?? above;
  if (running === undefined || next === undefined) return own === "live" ? next : running;
  return mergeFields(schema, asTree(running), asTree(next), own);
}

/** The marks that count for a part of the configuration: one where all of it is the same. */
function marksWithin(schema: Schema, above: ReloadMark | undefined): Set<ReloadMark | undefined> {
  const own = metaOf(schema).reload ?? above;
  const below = [...(fieldsOf(schema)?.values() ?? [])].flatMap((field) => [...marksWithin(field, own)]);
  const comesAndGoes = below.length === 0 || isOptional(schema);
  return new Set(comesAndGoes ? [own, ...below] : below);
}

function asTree(value: unknown): Tree {
  return value as Tree;
}

function mergeValues(running: readonly ConfigValue[], next: readonly ConfigValue[]): ConfigValue[] {
  const isLive = liveness(running, next);
  return [...running.filter((value) => !isLive(value)), ...next.filter(isLive)];
}

/** Tells of a setting whether a reload takes it over. */
function liveness(running: readonly ConfigValue[], next: readonly ConfigValue[]) {
  const [before, after] = [sectionsIn(running), sectionsIn(next)];
  const comesOrGoes = (section: string) => before.has(section) !== after.has(section);
  return ({ path }: ConfigValue): boolean => {
    let here: Schema | undefined = Settings;
    let mark: ReloadMark | undefined;
    for (const [depth, key] of path.entries()) {
      here = here && (fieldsOf(here)?.get(key) ?? valuesOf(here));
      if (here === undefined) break;
      mark = metaOf(here).reload ?? mark;
      if (fieldsOf(here) && isOptional(here) && comesOrGoes(path.slice(0, depth + 1).join("."))) break;
    }
    return mark === "live";
  };
}

/** The dotted paths of everything above a setting. */
function sectionsIn(values: readonly ConfigValue[]): ReadonlySet<string> {
  return new Set(values.flatMap(({ path }) => path.map((_, depth) => path.slice(0, depth).join("."))));
}

/** What changed between two configurations, one message each. */
interface ConfigDiff {
  /** Changes that a running FireRunner takes over at once. */
  readonly live: readonly string[];
  /** Changes that wait for the next start. */
  readonly restart: readonly string[];
}

/** `running` is what `mergeReloadable` returned before, so that what waits for a restart is told until there is one. */
export function diffConfig(running: Config, next: Config): ConfigDiff {
  const live = [
    ...poolChanges(running, next),
    ...hostChanges(running, next),
    ...webhookSecretChanges(running.webhook, next.webhook),
    ...traceAccessChanges(running.tracesAccess, next.tracesAccess),
    ...(isSame(running.metrics.token, next.metrics.token) ? [] : ["metrics: another token"]),
    ...apiTokenChanges(running.api, next.api),
  ];
  const restart = webhookComesOrGoes(running, next);
  const isLive = liveness(running.values, next.values);
  const before = new Map(running.values.map((each) => [each.path.join("."), each]));
  const after = new Map(next.values.map((each) => [each.path.join("."), each]));
  for (const [name, value] of new Map([...before, ...after])) {
    const change = changeOf(name, before.get(name), after.get(name), running, next);
    if (change === undefined) continue;
    if (isLive(value)) live.push(change);
    else restart.push(`${change} (after a restart)`);
  }
  return { live, restart };
}

/** Of tokens that stay under their name; that one comes or goes its setting tells. */
function apiTokenChanges({ tokens: before }: Config["api"], { tokens: after }: Config["api"]): string[] {
  return [...after].flatMap(([name, { token }]) => {
    const old = before.get(name)?.token;
    return old === undefined || isSame(old, token) ? [] : [`api.tokens.${name}: another token`];
  });
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

/** What the files of `traces` hold. */
function traceAccessChanges(old: TracesAccess | undefined, next: TracesAccess | undefined): string[] {
  if (old === undefined || next === undefined) return [];
  const text = ({ headers }: TracesAccess) =>
    JSON.stringify(headers.map(([name, value]) => [name, value.reveal()]));
  return [
    ...(text(old) === text(next) ? [] : ["traces: other headers"]),
    ...(old.ca === next.ca ? [] : ["traces: other authorities"]),
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
  const path = value?.path ?? [];
  const at = remoteDrivers.find(({ hostsSetting }) =>
    hostsSetting.every((part, index) => path[index] === part),
  );
  const name = path[at?.hostsSetting.length ?? 0] ?? "";
  return at !== undefined && !(old.hosts.has(name) && next.hosts.has(name));
}

function show(entry: ConfigValue | undefined): string {
  if (entry === undefined) return "not set";
  return typeof entry.value === "string" ? entry.value : JSON.stringify(entry.value);
}
