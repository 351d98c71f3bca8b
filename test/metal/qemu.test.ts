import { describe, expect, test } from "vitest";
import { tinyImage } from "../vm/tiny-image.ts";
import { checkoutDisk, hostLayer, hostSystem, imagesDisk, librariesDisk } from "./disks.ts";
import { type Metal, startMetal } from "./machine.ts";
import { readVerdicts, type Verdict } from "./test-results.ts";

/** Everything inside is emulated: measured 4 minutes for the short form and 9 for the whole on a quiet computer. */
const INSIDE_MS = 30 * 60_000;
/** The host says every few seconds that it lives: only an emulator that hangs is silent for so long. */
const SILENCE_MS = 3 * 60_000;
const HOSTS = 3;

/** Every promise of the driver's contract makes machines of its own. `npm run test:metal` tries them all, CI these. */
const isWhole = process.env["FIRERUNNER_METAL"] === "whole";
const short = "KVM is found|starts a machine, shows it|a job runs in a machine";

const packages = ["qemu-system-x86", "socat", "e2fsprogs", "procps"];
const verdictsFile = "/builds/tmp/verdicts.json";
const ALIVE = "alive";
const tests = [
  `(while sleep 10; do echo ${ALIVE}; done) & alive=$!`,
  "cd /firerunner",
  "export NODE_COMPILE_CACHE=/builds/tmp/compiled PATH=/firerunner/node_modules/.bin:$PATH",
  `vitest run --config test/metal/inside/vitest.config.ts --configLoader native ${isWhole ? "" : `-t '${short}'`}`,
  "status=$?; kill $alive; exit $status",
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

interface Outcome {
  readonly kvm: string;
  readonly status: number;
  readonly output: string;
  readonly verdicts: readonly Verdict[];
}

async function runInside(): Promise<Outcome> {
  await using metal = await startHost();
  console.error(`metal: up after ${Math.round(metal.bootMs / 1_000)} s`);
  const kvm = await metal.run("ls -d /sys/module/kvm_amd && stat -c %A /dev/kvm");
  const { status, output } = await metal.run(tests, {
    silenceMs: SILENCE_MS,
    onLine: (line) => line === ALIVE || console.error(`metal: ${line}`),
  });
  return { kvm: kvm.output, status, output, verdicts: await readVerdicts(metal, verdictsFile) };
}

/** An emulator that hangs is not to be blamed on the driver: it leaves no verdict, good or bad, and another host is asked. */
async function verdictsOfHost(left = HOSTS): Promise<Outcome> {
  try {
    return await runInside();
  } catch (error) {
    console.error(`metal: no verdict: ${error}`);
    if (left === 1) throw error;
    return await verdictsOfHost(left - 1);
  }
}

describe("the qemu driver on a host with KVM", () => {
  let verdicts: readonly Verdict[] = [];

  test(
    "all tests that run inside come to a verdict",
    async () => {
      const outcome = await verdictsOfHost();
      verdicts = outcome.verdicts;

      expect(outcome.kvm).toMatch(/crw-rw/);
      expect(verdicts.filter(({ passed }) => !passed)).toEqual([]);
      expect(outcome.status, outcome.output.slice(-2_000)).toBe(0);
    },
    INSIDE_MS,
  );

  test.each([
    ["KVM is found by a trial boot, and taken", 1],
    ["the qemu with KVM driver", isWhole ? 20 : 1],
    ["a job runs in a machine that KVM drives, from the claim to the end", 1],
  ])("passed inside: %s", (name, least) => {
    const passed = verdicts.filter((verdict) => verdict.passed && verdict.name.startsWith(name));

    expect(passed.length).toBeGreaterThanOrEqual(least);
  });
});
