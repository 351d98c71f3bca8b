import { describe, expect, test } from "vitest";
import { z } from "zod";
import { Pool } from "./config.ts";

const runner = { tokenFile: "/etc/firerunner/small.token" };

describe("pool settings", () => {
  test("a runner's token is all that must be given", () => {
    expect(Pool.parse({ runner })).toEqual({
      size: { cpus: 1, memory: 2_048, disk: 20_480 },
      image: "base",
      driver: "auto",
      runner,
      concurrency: 10,
      containers: {
        ...{ ignore: false, defaultImage: "debian:13-slim", privileged: true },
        ...{ engine: "podman", socket: false },
        ...{ allow: [], pullDeadline: 600_000 },
      },
      egress: { mode: "internet", hosts: [], audit: false },
      hostLabels: {},
      environment: [],
    });
  });

  test("a pool may be without a runner", () => {
    expect(Pool.parse({}).runner).toBeUndefined();
  });

  test("sizes are read in people's words", () => {
    const pool = Pool.parse({ runner, size: { cpus: 4, memory: "8GiB", disk: "1.5GiB" } });

    expect(pool.size).toEqual({ cpus: 4, memory: 8_192, disk: 1_536 });
  });

  test.each([
    ["an unknown key", { runner, memory: "4GiB" }, "memory"],
    ["a size without a unit", { runner, size: { memory: "4096" } }, "not a size"],
    ["no CPU", { runner, size: { cpus: 0 } }, "size.cpus"],
    ["half a CPU", { runner, size: { cpus: 1.5 } }, "size.cpus"],
    ["two tokens", { runner: { token: "glrt-a", tokenFile: "/a" } }, "exactly one"],
    ["no token", { runner: {} }, "exactly one"],
    ["an unknown driver", { runner, driver: "docker" }, "driver"],
  ])("%s is refused, saying where", (_what, value, expected) => {
    const parsed = Pool.safeParse(value);

    expect(parsed.success).toBe(false);
    expect(parsed.error && z.prettifyError(parsed.error)).toContain(expected);
  });
});
