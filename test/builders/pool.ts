import { Secret } from "../../src/base/secret.ts";
import type { MachineContainers } from "../../src/domain/containers.ts";
import { type EgressText, normalEgress } from "../../src/domain/egress.ts";
import type { Pool } from "../../src/domain/pool.ts";
import { aSize } from "./size.ts";

/** Egress as an operator writes it. */
export type PoolOverrides = Partial<Omit<Pool, "egress">> & { readonly egress?: EgressText };

/** As the configuration has it that says nothing of containers. */
export const usualContainers: MachineContainers = {
  ignore: false,
  defaultImage: "debian:13-slim",
  privileged: true,
  engine: "podman",
  socket: false,
  allow: [],
  pullDeadline: 600_000,
};

/** A pool as the modules get it: token read, driver decided. */
export function aPool({ egress = "none", ...overrides }: PoolOverrides = {}): Pool {
  return {
    name: "small",
    origin: { kind: "configured" },
    size: aSize(),
    image: "base",
    driver: "fake",
    concurrency: 10,
    egress: normalEgress(egress),
    hostLabels: {},
    containers: usualContainers,
    runnerToken: new Secret("glrt-abcdefghijklmnopqrst"),
    ...overrides,
  };
}
