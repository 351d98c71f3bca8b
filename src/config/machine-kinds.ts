import type { WebhookConfig } from "../intake/config.ts";
import type { MachineKind } from "../lifecycle/pool.ts";
import type { TagRules } from "../lifecycle/routing.ts";
import type { Settings } from "./schema.ts";

/** What machines of a pool are, with or without a runner. */
export function kindOfPool({
  image,
  driver,
  concurrency,
  egress,
  size,
}: Settings["pools"][string]): MachineKind {
  return { ...commonOf({ image, driver, concurrency, egress }), diskMib: size.disk };
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
    rules: rules.map(({ tag, image, pool }) => ({
      tag,
      kind: (pool === undefined ? undefined : kinds.get(pool)) ?? { ...kind, image: image ?? kind.image },
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
}

function commonOf({ image, driver, concurrency, egress }: CommonSettings): Omit<MachineKind, "diskMib"> {
  return { image, driver: driver === "auto" ? "qemu" : driver, executor: "shell", concurrency, egress };
}
