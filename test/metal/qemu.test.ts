import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { tinyImage } from "../vm/tiny-image.ts";
import { checkoutDisk, hostLayer, hostSystem, imagesDisk, librariesDisk } from "./disks.ts";
import { type Metal, startMetal } from "./machine.ts";
import { readVerdicts, type Verdict } from "./verdicts.ts";

/** Everything inside is emulated: measured 7 minutes with a busy computer around. */
const INSIDE_MS = 25 * 60_000;

const packages = ["qemu-system-x86", "socat", "e2fsprogs", "procps"];
const verdictsFile = "/builds/tmp/verdicts.json";
const tests = [
  "cd /firerunner",
  "export NODE_COMPILE_CACHE=/builds/tmp/compiled PATH=/firerunner/node_modules/.bin:$PATH",
  "vitest run --config test/metal/inside/vitest.config.ts --configLoader native",
].join("\n");

describe("the qemu driver on a host with KVM", () => {
  let metal: Metal;
  let verdicts: readonly Verdict[] = [];

  beforeAll(async () => {
    const system = await hostSystem("metal", packages);
    const tiny = await tinyImage();
    metal = await startMetal({
      ...system,
      layers: [...system.layers.slice(0, 1), await hostLayer([])],
      disks: [
        { file: await checkoutDisk(), at: "/firerunner" },
        { file: await librariesDisk(), at: "/firerunner/node_modules" },
        { file: await imagesDisk("base", tiny.kernel), at: "/var/cache/firerunner" },
      ],
    });
    console.error(`metal: up after ${Math.round(metal.bootMs / 1_000)} s`);
  });

  afterAll(async () => {
    await metal?.[Symbol.asyncDispose]();
  });

  test("its processor's own KVM module is loaded", async () => {
    const { output } = await metal.run("ls /sys/module/kvm_amd >/dev/null && stat -c %A /dev/kvm");

    expect(output).toMatch(/^crw-rw/);
  });

  test(
    "all tests that run inside come to a verdict",
    async () => {
      const { status, output } = await metal.run(tests, {
        deadlineMs: INSIDE_MS,
        onLine: (line) => console.error(`metal: ${line}`),
      });
      verdicts = await readVerdicts(metal, verdictsFile);

      expect(verdicts.filter(({ passed }) => !passed)).toEqual([]);
      expect(status, output.slice(-2_000)).toBe(0);
    },
    INSIDE_MS,
  );

  test.each([
    ["KVM is found by a trial boot, and taken", 1],
    ["the qemu with KVM driver", 20],
    ["a job runs in a machine that KVM drives, from the claim to the end", 1],
  ])("passed inside: %s", (name, least) => {
    const passed = verdicts.filter((verdict) => verdict.passed && verdict.name.startsWith(name));

    expect(passed.length).toBeGreaterThanOrEqual(least);
  });
});
