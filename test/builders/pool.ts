import { Secret } from "../../src/base/secret.ts";
import { type EgressText, normalEgress } from "../../src/domain/egress.ts";
import type { Pool } from "../../src/domain/pool.ts";
import { aSize } from "./size.ts";

/** Egress as an operator writes it. */
export type PoolOverrides = Partial<Omit<Pool, "egress">> & { readonly egress?: EgressText };

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
    runnerToken: new Secret("glrt-abcdefghijklmnopqrst"),
    ...overrides,
  };
}
