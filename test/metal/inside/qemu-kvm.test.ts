import { copyFile, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { systemClock } from "../../../src/base/clock.ts";
import { silentLog } from "../../../src/base/log.ts";
import { VmConfig } from "../../../src/vm/config.ts";
import { describeVmDriver } from "../../../src/vm/driver.contract.ts";
import { createQemuDriver } from "../../../src/vm/qemu/driver.ts";
import { createQemuHarness } from "../../vm/qemu-harness.ts";
import { tinyImage } from "../../vm/tiny-image.ts";

/** By the driver's own choice; only its trial boot, about 20 s, gets the time that an emulated processor takes. */
const qemu = { accelerator: "auto", trialBoot: "100s" } as const;

let stateDirectory = "";
const used: string[] = [];
afterAll(async () => {
  for (const directory of used) await rm(directory, { recursive: true });
});

// An emulated processor with a guest of its own stands still for good now and then: a boot that hangs is tried again.
test("KVM is found by a trial boot, and taken", { retry: 2 }, async () => {
  stateDirectory = await mkdtemp(join(process.env["TMPDIR"] ?? "/tmp", "fr-probe-"));
  used.push(stateDirectory);
  const settings = VmConfig.parse({ qemu });
  const driver = createQemuDriver({ stateDirectory, settings, clock: systemClock, log: silentLog });

  const probe = await driver.probe(await tinyImage(), AbortSignal.timeout(150_000));
  await driver.close();

  expect(probe).toEqual({ usable: true, accelerator: "kvm", version: expect.stringMatching(/^\d+\.\d+/) });
});

describeVmDriver("qemu with KVM", async () => {
  const harness = await createQemuHarness(await tinyImage(), qemu);
  // The verdict of the trial boot above: one for each of two dozen hosts would take most of the time.
  const name = "qemu-accelerator.json";
  await copyFile(join(stateDirectory, name), join(harness.stateDirectory, name));
  return harness;
});
