import { Secret } from "../../src/base/secret.ts";
import type { Pool } from "../../src/lifecycle/pool.ts";
import { aSize } from "./size.ts";

/** A pool as the rooms get it: token read, driver decided. */
export function aPool(overrides: Partial<Pool> = {}): Pool {
  return {
    name: "small",
    size: aSize(),
    image: "base",
    driver: "fake",
    executor: "shell",
    concurrency: 10,
    egress: "none",
    hostLabels: {},
    runnerToken: new Secret("glrt-abcdefghijklmnopqrst"),
    ...overrides,
  };
}
