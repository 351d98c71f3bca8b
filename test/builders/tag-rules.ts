import { normalEgress } from "../../src/domain/egress.ts";
import type { MachineKind } from "../../src/domain/pool.ts";
import type { TagRules } from "../../src/domain/routing.ts";
import { usualContainers } from "./pool.ts";

/** What a machine by tag is besides its size. */
export function aKind(overrides: Partial<MachineKind> = {}): MachineKind {
  return {
    image: "base",
    driver: "fake",
    concurrency: 100,
    egress: normalEgress("none"),
    hostLabels: {},
    containers: usualContainers,
    diskMib: 20_480,
    ...overrides,
  };
}

/** The rules of a configuration that says nothing of its own; any size is possible. */
export function tagRules(overrides: Partial<TagRules> = {}): TagRules {
  return {
    prefix: "firecracker",
    maxCpus: 16,
    maxMemoryMib: 65_536,
    rules: [],
    kind: aKind(),
    sizeProblem: () => undefined,
    ...overrides,
  };
}
