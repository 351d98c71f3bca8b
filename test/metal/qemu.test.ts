import { describe, expect, test } from "vitest";
import { tinyImage } from "../vm/tiny-image.ts";
import { checkoutDisk, hostLayer, hostSystem, imagesDisk, librariesDisk } from "./disks.ts";
import { type Metal, startMetal } from "./machine.ts";
import { readVerdicts, type Verdict } from "./test-results.ts";

/** Everything inside is emulated: measured 5 to 7 minutes with a busy computer around, 3 of them for one test. */
const INSIDE_MS = 30 * 60_000;
const SILENCE_MS = 10 * 60_000;

const packages = ["qemu-system-x86", "socat", "e2fsprogs", "procps"];
const verdictsFile = "/builds/tmp/verdicts.json";
const tests = [
  "cd /firerunner",
  "export NODE_COMPILE_CACHE=/builds/tmp/compiled PATH=/firerunner/node_modules/.bin:$PATH",
  "vitest run --config test/metal/inside/vitest.config.ts --configLoader native",
].join("\n");

async function startHost(): Promise<Metal> {
  const system = await hostSystem("metal", packages);
  const tiny = await tinyImage();
  return await startMetal({
    ...system,
    layers: [...system.layers.slice(0, 1), await hostLayer([])],
    disks: [
      { file: await checkoutDisk(), at: "/firerunner" },
      { file: await librariesDisk(), at: "/firerunner/node_modules" },
      { file: await imagesDisk("base", tiny.kernel), at: "/var/cache/firerunner" },
    ],
  });
}

describe("the qemu driver on a host with KVM", () => {
  let verdicts: readonly Verdict[] = [];

  // A host of its own for each try: an emulator that hangs is not to be blamed on the driver.
  test(
    "all tests that run inside come to a verdict",
    async () => {
      await using metal = await startHost();
      console.error(`metal: up after ${Math.round(metal.bootMs / 1_000)} s`);
      const kvm = await metal.run("ls -d /sys/module/kvm_amd && stat -c %A /dev/kvm");
      const { status, output } = await metal.run(tests, {
        silenceMs: SILENCE_MS,
        onLine: (line) => console.error(`metal: ${line}`),
      });
      verdicts = await readVerdicts(metal, verdictsFile);

      expect(kvm.output).toMatch(/crw-rw/);
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
