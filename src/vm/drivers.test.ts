import { existsSync, globSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { silentLog } from "../base/log.ts";
import { createManualClock } from "../base/manual-clock.ts";
import { driverNames } from "../domain/drivers.ts";
import { VmConfig } from "./config.ts";
import { createLocalFleet } from "./drivers.ts";

const image = { digest: "sha256:1", architecture: "vax", kernel: "/none", initramfs: "/none", layers: [] };
const signal = new AbortController().signal;

describe("the registry of drivers", () => {
  let stateDirectory: string;
  const clock = createManualClock();

  beforeEach(async () => {
    stateDirectory = await mkdtemp(join(tmpdir(), "fr-drivers-"));
  });

  afterEach(() => rm(stateDirectory, { recursive: true }));

  function deps(state = stateDirectory) {
    return { stateDirectory: state, settings: VmConfig.parse({}), clock, log: silentLog };
  }

  test("makes every driver under the name that pools use", async () => {
    const fleet = createLocalFleet(deps());

    expect([...fleet.hosts()].map(([name, driver]) => [name, driver.name])).toEqual([
      ["qemu", "qemu"],
      ["fake", "fake"],
    ]);
    for (const driver of fleet.hosts().values()) {
      expect(await driver.list(signal)).toEqual([]);
      expect((await driver.capacity()).cpus).toBeGreaterThan(0);
    }
    await fleet.close();
  });

  test("a driver is a row, a folder and a maker, and nothing else in src names it", () => {
    const src = join(import.meta.dirname, "..");
    const naming = (pattern: RegExp) =>
      globSync("**/*.ts", { cwd: src })
        .filter((file) => !/\.(test|contract)\.ts$/.test(file))
        .filter((file) => pattern.test(readFileSync(join(src, file), "utf8")))
        .toSorted();

    expect(naming(/\bqemu:|"qemu"/).filter((file) => !file.startsWith("vm/qemu/"))).toEqual([
      "domain/drivers.ts",
      "vm/config.ts",
      "vm/drivers.ts",
    ]);
    for (const name of driverNames) expect(existsSync(join(src, "vm", name, "driver.ts")), name).toBe(true);
  });

  test("refuses a state directory that is too deep for sockets", () => {
    const deep = join(stateDirectory, "d".repeat(120));

    expect(() => createLocalFleet(deps(deep))).toThrow(/too long a path/);
  });

  test("the qemu driver says that an image is for another computer", async () => {
    const driver = createLocalFleet(deps()).hosts().get("qemu");

    const probe = await driver?.probe(image, signal);
    await driver?.close();

    expect(probe).toMatchObject({ usable: false, problem: expect.stringContaining("vax") });
  });
});
