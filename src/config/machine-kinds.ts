import type { WebhookConfig } from "../discovery/config.ts";
import { preferredDriver } from "../domain/drivers.ts";
import { type AbilityName, wantedAbilities } from "../domain/images.ts";
import type { MachineKind } from "../domain/pool.ts";
import type { TagRules } from "../domain/routing.ts";
import type { Settings } from "./schema.ts";

/** What machines of a pool are, with or without a runner. */
export function kindOfPool({
  image,
  driver,
  concurrency,
  egress,
  hostLabels,
  containers,
  size,
}: Settings["pools"][string]): MachineKind {
  return { ...commonOf({ image, driver, concurrency, egress, hostLabels, containers }), diskMib: size.disk };
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

interface CommonSettings {
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
  return { image, driver: named, concurrency, egress, hostLabels, containers };
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
