import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { systemClock } from "../../base/clock.ts";
import { newMachineId } from "../../base/ids.ts";
import { createManualClock } from "../../base/manual-clock.ts";
import { Secret } from "../../base/secret.ts";
import { describeVmDriver, type VmDriverHarness } from "../driver.contract.ts";
import type { MachineSpec } from "../driver.ts";
import { VmError } from "../errors.ts";
import { createFakeDriver, createFakeFleetDriver } from "./driver.ts";
import { createFakeHost } from "./host.ts";

const image = { digest: "sha256:none", architecture: "amd64", kernel: "", initramfs: "", layers: [] };
const signal = new AbortController().signal;

async function createHarness(): Promise<VmDriverHarness> {
  const directory = await mkdtemp(join(tmpdir(), "fr-fake-"));
  const host = createFakeHost(systemClock);
  return {
    image,
    open: () => createFakeDriver({ host, directory }),
    guestUp: async () => {},
    guestPrints: async (id, text) => host.print(id, `${text}\n`),
    guestEnds: async (id, how) => host.end(id, how),
    kill: async (id) => host.end(id, "killed"),
    leaveHalfMade: async (id) => host.leaveHalfMade(id),
    runningCount: async (id) => (host.status(id)?.running ? 1 : 0),
    leftovers: async (id) => [...host.ids(), ...(await readdir(directory))].filter((name) => name === id),
    dispose: () => rm(directory, { recursive: true, force: true }),
  };
}

describeVmDriver("fake", createHarness);

describe("faults of the fake driver", () => {
  function aHost() {
    const clock = createManualClock();
    const host = createFakeHost(clock);
    return { clock, host, driver: createFakeDriver({ host }) };
  }

  function aSpec(): MachineSpec {
    return { id: newMachineId(), size: { cpus: 1, memoryMib: 128, diskMib: 64 }, image };
  }

  test("create fails as asked and leaves a half-made machine", async () => {
    const { host, driver } = aHost();
    const spec = aSpec();
    const fail = new VmError("vm_disk_full", "no room", { retryable: true });
    host.faults.create = () => ({ fail });

    await expect(driver.create(spec, signal)).rejects.toBe(fail);

    expect(await driver.inspect(spec.id, signal)).toMatchObject({ status: { running: false, exit: "lost" } });
  });

  test("a slow create is not shown as lost, and ends with its time", async () => {
    const { clock, host, driver } = aHost();
    const spec = aSpec();
    host.faults.create = () => ({ delayMs: 5_000 });
    const creating = driver.create(spec, signal);

    const meanwhile = await driver.inspect(spec.id, signal);
    const hidden = host.status(spec.id);
    await clock.advance(5_000);
    await creating;

    expect(meanwhile).toMatchObject({ status: { running: true } });
    expect(hidden).toMatchObject({ running: false });
    expect(host.status(spec.id)).toMatchObject({ running: true });
  });

  test("a create that hangs ends with destroy, with its signal, or with the driver", async () => {
    const { host, driver } = aHost();
    host.faults.create = () => ({ hang: true });
    const [one, two, three] = [aSpec(), aSpec(), aSpec()];
    const abort = new AbortController();
    const creating = [
      driver.create(one, signal),
      driver.create(two, abort.signal),
      driver.create(three, signal),
    ].map((promise) => promise.catch((error: VmError) => error.code));

    await driver.destroy(one.id, signal);
    abort.abort();
    await driver.close();

    expect(await Promise.all(creating)).toEqual(Array(3).fill("vm_create_failed"));
    expect(host.ids()).toEqual([two.id, three.id]);
  });

  test("machines die after their time, with or without a driver", async () => {
    const { clock, host, driver } = aHost();
    const spec = aSpec();
    host.faults.create = () => ({ dieAfterMs: 100, exit: "crash" });
    await driver.create(spec, signal);
    await driver.close();

    await clock.advance(100);

    expect(host.status(spec.id)).toEqual({ running: false, exit: "crash" });
  });

  test("destroy and list fail as long as asked", async () => {
    const { host, driver } = aHost();
    const spec = aSpec();
    await driver.create(spec, signal);
    const failure = new VmError("vm_destroy_failed", "it stays", { retryable: true });
    const failures = [failure, failure];
    host.faults.destroy = () => failures.pop();
    host.faults.list = () => failures.pop();

    await expect(driver.destroy(spec.id, signal)).rejects.toBe(failure);
    await expect(driver.list(signal)).rejects.toBe(failure);
    await driver.destroy(spec.id, signal);

    expect(host.ids()).toEqual([]);
  });

  test("the host can lose machines without a word", async () => {
    const { host, driver } = aHost();
    const told: string[] = [];
    driver.onExit((id) => told.push(id));
    const spec = aSpec();
    await driver.create(spec, signal);

    host.remove(spec.id);

    expect(await driver.list(signal)).toEqual([]);
    expect(told).toEqual([]);
  });

  test("a guest can be played, and hears when its machine ends", async () => {
    const { host, driver } = aHost();
    const spec = aSpec();
    let ended = false;
    host.onCreate = (guest) => {
      guest.signal.addEventListener("abort", () => {
        ended = true;
      });
      guest.print(`I am ${guest.spec.id}`);
      throw new Error("kernel panic");
    };

    await driver.create(spec, signal);

    expect(await driver.console(spec.id, 100)).toBe(`I am ${spec.id}`);
    expect(ended).toBe(true);
    expect(host.status(spec.id)).toEqual({ running: false, exit: "crash" });
  });
});

const link = async () => ({
  address: "relay:1",
  serverName: "relay",
  ca: "",
  secret: new Secret("0".repeat(64)),
});

describeVmDriver("fake, as a host of a fleet,", async () => {
  const harness = await createHarness();
  const host = createFakeHost(systemClock);
  return {
    ...harness,
    link,
    open: () => createFakeFleetDriver({ host, name: "metal-1" }),
    guestPrints: async (id, text) => host.print(id, `${text}\n`),
    guestEnds: async (id, how) => host.end(id, how),
    kill: async (id) => host.end(id, "killed"),
    leaveHalfMade: async (id) => void host.leaveHalfMade(id),
    runningCount: async (id) => (host.status(id)?.running ? 1 : 0),
    leftovers: async (id) => host.ids().filter((each) => each === id),
  };
});

test("a host that cannot be reached, and a machine that nobody hears of", async () => {
  const clock = createManualClock();
  const host = createFakeHost(clock);
  const driver = createFakeFleetDriver({ host, name: "metal-1", labels: { zone: "a" } });
  const spec: MachineSpec = {
    id: newMachineId(),
    size: { cpus: 1, memoryMib: 64, diskMib: 64 },
    image,
    link,
  };
  const away = new VmError("vm_create_failed", "nobody answers");

  host.faults.reach = () => Promise.reject(away);
  await expect(driver.list(signal)).rejects.toBe(away);
  await expect(driver.create(spec, signal)).rejects.toBe(away);
  host.faults.reach = () => undefined;
  host.faults.create = () => ({ isUnanswered: true });
  const patience = new AbortController();
  const created = driver.create(spec, patience.signal);
  await clock.advance(10_000);
  patience.abort(new Error("no answer"));

  await expect(created).rejects.toThrow("was stopped");
  expect(await driver.list(signal)).toMatchObject([{ id: spec.id, status: { running: true } }]);
});
