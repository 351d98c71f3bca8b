import type { WebhookConfig } from "../discovery/config.ts";
import { preferredDriver } from "../domain/drivers.ts";
import { type AbilityName, askedBy, wantedAbilities } from "../domain/images.ts";
import type { MachineKind, RunnerSettings } from "../domain/pool.ts";
import type { TagRules } from "../domain/routing.ts";
import type { Settings } from "./schema.ts";

/** What machines of a pool are, with or without a runner. */
export function kindOfPool({ size, ...settings }: Settings["pools"][string]): MachineKind {
  return { ...commonOf(settings), diskMib: size.disk };
}

/** What the configuration says about the tags of jobs. `kinds` are those of all pools, which the rules may name. */
export function tagRulesOf(
  { tagPrefix, sizes, rules, machine }: Pick<WebhookConfig, "tagPrefix" | "sizes" | "rules" | "machine">,
  kinds: ReadonlyMap<string, MachineKind>,
  sizeProblem: TagRules["sizeProblem"],
): TagRules {
  const kind: MachineKind = { ...commonOf(machine), diskMib: machine.disk };
  return {
    prefix: tagPrefix,
    maxCpus: sizes.maxCpus,
    maxMemoryMib: sizes.maxMemory,
    rules: rules.map(({ tag, image, pool, hostLabels }) => ({
      tag,
      kind: pool === undefined ? ofImage(kind, image) : kinds.get(pool),
      hostLabels,
    })),
    kind,
    sizeProblem,
  };
}

interface CommonSettings extends RunnerSettings {
  readonly image: string;
  readonly driver: string;
  readonly concurrency: number;
  readonly egress: MachineKind["egress"];
  readonly hostLabels: MachineKind["hostLabels"];
  readonly containers: MachineKind["containers"];
}

function commonOf(settings: CommonSettings): Omit<MachineKind, "diskMib"> {
  const { image, driver, concurrency, egress, hostLabels, containers } = settings;
  const named = driver === "auto" ? preferredDriver() : driver;
  const runnerSettings = runnerSettingsOf(settings);
  return {
    ...{ image, driver: named, concurrency, egress, hostLabels, containers },
    ...(runnerSettings ? { runnerSettings } : {}),
  };
}

function runnerSettingsOf(settings: RunnerSettings): RunnerSettings | undefined {
  const { environment, preGetSources, preBuild, postBuild } = settings;
  const says = environment.length > 0 || preGetSources || preBuild || postBuild;
  return says ? { environment, preGetSources, preBuild, postBuild } : undefined;
}

function ofImage(kind: MachineKind, image: string | undefined): MachineKind | undefined {
  return image === undefined ? undefined : { ...kind, image };
}

/** A part of the configuration that may name certificate authorities. */
interface Trusting {
  readonly caFile?: string | undefined;
}

/** What this configuration wants of the images of its pools: what is wanted always, and what it asks for itself. */
export function neededAbilities({
  gitlab,
  proxy,
  guests,
}: Readonly<Record<"gitlab" | "proxy" | "guests", Trusting>>): AbilityName[] {
  const hasAuthorities = [gitlab, proxy, guests].some(({ caFile }) => caFile !== undefined);
  return wantedAbilities(hasAuthorities ? ["authorities"] : []);
}

/** What is wanted of each image that a pool or jobs by tag have, by the image's name. */
export function abilitiesByImage(
  config: Parameters<typeof neededAbilities>[0] & {
    readonly kinds: ReadonlyMap<string, MachineKind>;
    readonly webhook?: Pick<WebhookConfig, "tagPrefix" | "sizes" | "rules" | "machine"> | undefined;
  },
): Map<string, AbilityName[]> {
  const { kinds, webhook } = config;
  const always = neededAbilities(config);
  const byTag = webhook && tagRulesOf(webhook, kinds, () => undefined);
  const ofTags = byTag ? [byTag.kind, ...byTag.rules.flatMap(({ kind }) => kind ?? [])] : [];
  const wanted = new Map<string, AbilityName[]>();
  for (const kind of [...kinds.values(), ...ofTags]) {
    const all = [...(wanted.get(kind.image) ?? always), ...askedBy(kind)];
    wanted.set(kind.image, [...new Set(all)]);
  }
  return wanted;
}
