import { existsSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { describeVmDriver } from "../../src/vm/driver.contract.ts";
import { flintlockSight } from "../flintlockd/harness.ts";
import { createRealHarness } from "../flintlockd/real-harness.ts";
import { createInstallation } from "../harness/installation.ts";
import { type Fleet, flintlockPorts, startFlintlockMetal } from "./flintlock-metal.ts";
import { OUTSIDE } from "./machine.ts";

/** A machine alone takes half a minute to speak, and a host's first one two minutes more: its image has to be unpacked. */
const MACHINE_MS = 600_000;

const flintlockd = process.env["FIRERUNNER_METAL_FLINTLOCKD"] ?? "";
const firecracker = process.env["FIRERUNNER_METAL_FIRECRACKER"] ?? "";
const areGiven = [flintlockd, firecracker].every((path) => path !== "" && existsSync(path));

describe.runIf(areGiven)("a real flintlockd with Firecracker", { timeout: MACHINE_MS }, () => {
  let fleet: Fleet;

  beforeAll(async () => {
    fleet = await startFlintlockMetal([flintlockd, firecracker]);
  }, MACHINE_MS);

  afterAll(async () => {
    await fleet?.[Symbol.asyncDispose]();
  });

  test("a job runs in a machine that flintlockd made, from the claim to the end", async () => {
    await using left = new AsyncDisposableStack();
    const installation = await createFleetInstallation(fleet);
    left.defer(() => installation.close());
    const daemon = await installation.start();
    left.defer(async () => void (await daemon.stop()));
    const { gitlab } = installation;
    const project = await gitlab.projects.add({
      path: "group/fleet",
      repository: { files: { "word.txt": "from git\n" } },
    });

    const job = await gitlab.addJob(project, { timeoutSeconds: 900, script: ["cat word.txt", "hostname"] });
    await gitlab.waitForJob(job, "success", MACHINE_MS);
    const gone = async () => (await daemon.machines()).filter(({ state }) => state === "gone");
    await expect.poll(gone, { timeout: 60_000, interval: 1_000 }).toHaveLength(1);
    const [machine] = await daemon.machines();
    const processes = await fleet.onHost("pgrep -c firecracker || true");

    expect(job.trace.text()).toContain("from git\n");
    expect(job.trace.text()).toContain(machine?.id);
    expect(machine).toMatchObject({ driver: "flintlock", host: "metal" });
    expect(processes).toBe("0\n");
    expect(gitlab.violations).toEqual([]);
  });

  describeVmDriver(
    "flintlock",
    async () => createRealHarness({ ...fleet.image, address: fleet.address, onHost: fleet.onHost }),
    flintlockSight,
  );
});

async function createFleetInstallation(fleet: Fleet) {
  const addresses = { addresses: "10.77.0.10-10.77.0.200/24", gateway: "10.77.0.1" };
  const metal = { address: fleet.address, plaintext: true, cpus: 2, memory: "4GiB", network: addresses };
  return await createInstallation({
    settings: {
      images: { directory: fleet.images },
      vm: { flintlock: { hosts: { metal } } },
      relay: {
        listen: [`127.0.0.1:${flintlockPorts.relay}`],
        advertise: `${OUTSIDE}:${flintlockPorts.relay}`,
      },
    },
    pool: { driver: "flintlock", size: { cpus: 1, memory: "1GiB", disk: "4GiB" } },
  });
}
