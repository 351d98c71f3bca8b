import { copyFile, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { systemClock } from "../../../src/base/clock.ts";
import { silentLog } from "../../../src/base/log.ts";
import { VmConfig } from "../../../src/vm/config.ts";
import { describeVmDriver } from "../../../src/vm/driver.contract.ts";
import { createQemuDriver } from "../../../src/vm/qemu/driver.ts";
import { createQemuHarness } from "../../vm/qemu-harness.ts";
import { tinyImage } from "../../vm/tiny-image.ts";

/** By the driver's own choice; only its trial boot gets the time that an emulated processor takes. */
const qemu = { accelerator: "auto", trialBoot: "3m" } as const;

let stateDirectory: string;
beforeAll(async () => {
  stateDirectory = await mkdtemp(join(process.env["TMPDIR"] ?? "/tmp", "fr-probe-"));
});
afterAll(async () => {
  await rm(stateDirectory, { recursive: true });
});

test("KVM is found by a trial boot, and taken", async () => {
  const settings = VmConfig.parse({ qemu });
  const driver = createQemuDriver({ stateDirectory, settings, clock: systemClock, log: silentLog });

  const probe = await driver.probe(await tinyImage(), AbortSignal.timeout(200_000));
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
