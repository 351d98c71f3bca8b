import { mkdir } from "node:fs/promises";
import { connect, createServer, type Server } from "node:net";
import { dirname } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { newMachineId } from "../base/ids.ts";
import type { BootImage } from "../domain/images.ts";
import type { Size } from "../domain/size.ts";
import type { ExitKind, MachineSpec, VmDriver } from "./driver.ts";

/** What a driver can see. Where it cannot, the suite tests what it owes instead, and leaves nothing out in silence. */
export interface DriverSight {
  /** It has the guests' consoles. Else they are empty, and following one ends at once. */
  readonly consoles: boolean;
  /** It sees a guest end. Else such a machine counts as running until it is destroyed: the relay notices its silence. */
  readonly ends: boolean;
  /** It knows that a create was cut off. Else the half-made machine counts as running, and is completed or removed all the same. */
  readonly halfMade: boolean;
}

const seesAll: DriverSight = { consoles: true, ends: true, halfMade: true };

/** A host of one driver under test, seen from outside of the driver. */
export interface VmDriverHarness {
  readonly image: BootImage;
  /** The least that machines of this host can have, when it is more than a token. */
  readonly size?: Size;
  /** For hosts whose machines come to the relay by a link. */
  readonly link?: NonNullable<MachineSpec["link"]>;
  /** A driver on this host. A second one is what a restart of the program makes. */
  open(): VmDriver;
  /** Returns when the guest is up and listens to `print` and `end`. */
  guestUp(id: string): Promise<void>;
  guestPrints(id: string, text: string): Promise<void>;
  guestEnds(id: string, how: "orderly" | "crash"): Promise<void>;
  /** SIGKILL for the machine, from outside. */
  kill(id: string): Promise<void>;
  /** The host loses the machine with all it has of it. Needed where a driver does not see ends: this it has to see. */
  lose?(id: string): Promise<void>;
  /** What a create leaves that was cut off before the machine ran. */
  leaveHalfMade(id: string): Promise<void>;
  /** How many machines (processes) of this id run. */
  runningCount(id: string): Promise<number>;
  /** Everything the host still holds of a machine, in words: processes, files, sockets. */
  leftovers(id: string): Promise<readonly string[]>;
  /** Ends and removes everything, whatever a failed test left. */
  dispose(): Promise<void>;
}

const WAIT = { timeout: 30_000, interval: 20 };

/**
 * The behaviour every driver owes the scheduler: each driver's test runs it. `createHarness` is called once per test.
 */
export function describeVmDriver(
  name: string,
  createHarness: () => Promise<VmDriverHarness>,
  sight: DriverSight = seesAll,
): void {
  describe(`the ${name} driver`, () => {
    let harness: VmDriverHarness;
    let driver: VmDriver;
    let opened: VmDriver[] = [];
    const signal = new AbortController().signal;

    function open(): VmDriver {
      const next = harness.open();
      opened.push(next);
      return next;
    }

    async function restart(): Promise<VmDriver> {
      await driver.close();
      driver = open();
      return driver;
    }

    function aSpec(change: Partial<MachineSpec> = {}): MachineSpec {
      const { image, link, size = { cpus: 1, memoryMib: 128, diskMib: 64 } } = harness;
      return { id: newMachineId(), size, image, ...(link ? { link } : {}), ...change };
    }

    /** An end that every driver sees. */
    async function lose(id: string): Promise<void> {
      if (sight.ends) return await harness.kill(id);
      if (!harness.lose) throw new Error("a driver that does not see ends must see that a machine is lost");
      await harness.lose(id);
    }

    async function created(spec = aSpec()): Promise<string> {
      await driver.create(spec, signal);
      return spec.id;
    }

    async function exitOf(id: string): Promise<ExitKind | "running" | "nothing"> {
      const machine = await driver.inspect(id, signal);
      if (!machine) return "nothing";
      return machine.status.running ? "running" : machine.status.exit;
    }

    beforeEach(async () => {
      harness = await createHarness();
      opened = [];
      driver = open();
    });

    afterEach(async () => {
      for (const each of opened) await each.close();
      await harness.dispose();
    });

    test("says that it can run here, and what the host has to give", async () => {
      const probe = await driver.probe(harness.image, signal);
      const capacity = await driver.capacity();

      expect(probe).toMatchObject({ usable: true });
      expect(Math.min(capacity.cpus, capacity.memoryMib, capacity.machines)).toBeGreaterThan(0);
    });

    test("says which sizes it cannot give, in words", () => {
      const size = { cpus: 2, memoryMib: 1_024, diskMib: 1_024 };

      expect(driver.sizeProblem(size)).toBeUndefined();
      expect(driver.sizeProblem({ ...size, cpus: 0 })).toContain("CPUs");
      expect(driver.sizeProblem({ ...size, cpus: 10_000 })).toContain("CPUs");
      expect(driver.sizeProblem({ ...size, memoryMib: 1 })).toContain("memory");
    });

    test("makes no machine with more image disks than it says it can", async () => {
      const imageDisks = Array.from({ length: driver.mostImageDisks + 1 }, (_, index) => `/images/${index}`);
      const spec = aSpec({ imageDisks });

      await expect(driver.create(spec, signal)).rejects.toMatchObject({ code: "vm_bad_spec" });
      expect(await driver.inspect(spec.id, signal)).toBeUndefined();
    });

    test("starts a machine, shows it, and leaves nothing of it", async () => {
      const before = Date.now();
      const id = await created();
      const listed = await driver.list(signal);
      const inspected = await driver.inspect(id, signal);
      await driver.destroy(id, signal);

      expect(listed).toEqual([{ id, status: { running: true, startedAt: expect.any(Number) } }]);
      expect(inspected).toMatchObject({ id, status: { running: true } });
      const startedAt = inspected?.status.running ? inspected.status.startedAt : 0;
      expect(startedAt).toBeGreaterThan(before - 60_000);
      expect(await driver.list(signal)).toEqual([]);
      expect(await harness.leftovers(id)).toEqual([]);
    });

    test("creating a machine again changes nothing, one after the other or at once", async () => {
      const spec = aSpec();
      await Promise.all([driver.create(spec, signal), driver.create(spec, signal)]);
      await driver.create(spec, signal);

      expect(await driver.list(signal)).toHaveLength(1);
      expect(await harness.runningCount(spec.id)).toBe(1);
    });

    test("creates several machines at once", async () => {
      const ids = await Promise.all([created(), created(), created()]);

      const listed = await driver.list(signal);
      expect(listed.map((machine) => machine.id).toSorted()).toEqual(ids.toSorted());
      expect(listed.every((machine) => machine.status.running)).toBe(true);
    });

    test("destroying is idempotent, also at once, and for machines that never were", async () => {
      const id = await created();

      await Promise.all([driver.destroy(id, signal), driver.destroy(id, signal)]);
      await driver.destroy(id, signal);
      await driver.destroy(newMachineId(), signal);

      expect(await harness.leftovers(id)).toEqual([]);
      expect(await driver.inspect(id, signal)).toBeUndefined();
    });

    test("destroying one machine leaves the others alone", async () => {
      const [one, other] = [await created(), await created()];

      await driver.destroy(one, signal);

      expect(await driver.list(signal)).toMatchObject([{ id: other, status: { running: true } }]);
      expect(await harness.runningCount(other)).toBe(1);
    });

    test("destroying a machine while it is created leaves nothing", async () => {
      const spec = aSpec();
      const creating = driver.create(spec, signal).catch(() => "stopped");
      await driver.destroy(spec.id, signal);
      await creating;

      // Create may have come last; what counts is that nothing runs that is not listed, and that it can be destroyed.
      const shown = (await driver.list(signal)).map((machine) => machine.id);
      if (shown.length === 0) expect(await harness.leftovers(spec.id)).toEqual([]);
      await driver.destroy(spec.id, signal);
      expect(await harness.leftovers(spec.id)).toEqual([]);
    });

    test("a create that is aborted leaves no machine running", async () => {
      const spec = aSpec();

      await expect(driver.create(spec, AbortSignal.abort())).rejects.toThrow();

      expect(await harness.runningCount(spec.id)).toBe(0);
      await driver.destroy(spec.id, signal);
      expect(await harness.leftovers(spec.id)).toEqual([]);
    });

    test("refuses ids and sizes that cannot be", async () => {
      const { size } = aSpec();
      const bad = { code: "vm_bad_spec" };

      for (const id of ["", "../../etc", "fr-ABCDEFGH", "fr-abc/defg", `fr-${"a".repeat(100)}`]) {
        await expect(driver.create(aSpec({ id }), signal)).rejects.toMatchObject(bad);
        await expect(driver.destroy(id, signal)).rejects.toMatchObject(bad);
        await expect(driver.inspect(id, signal)).rejects.toMatchObject(bad);
        expect(() => driver.relaySocket(id)).toThrow();
      }
      for (const wrong of [{ cpus: 0 }, { cpus: 1.5 }, { memoryMib: -1 }, { diskMib: Number.NaN }]) {
        const spec = aSpec({ size: { ...size, ...wrong } });
        await expect(driver.create(spec, signal)).rejects.toMatchObject(bad);
      }
      expect(await driver.list(signal)).toEqual([]);
    });

    test("finds a half-made machine, and completes or removes it", async () => {
      const [one, other] = [aSpec(), aSpec()];
      await harness.leaveHalfMade(one.id);
      await harness.leaveHalfMade(other.id);
      const lost = sight.halfMade ? { running: false, exit: "lost" } : { running: true };
      const found = await driver.list(signal);

      await driver.create(one, signal);
      await driver.destroy(other.id, signal);

      expect(found.map((machine) => machine.status)).toMatchObject([lost, lost]);
      expect(await harness.runningCount(one.id)).toBe(1);
      expect(await harness.leftovers(other.id)).toEqual([]);
    });

    test("a new driver finds the running machines and does not disturb them", async () => {
      const spec = aSpec();
      const id = await created(spec);
      const before = await driver.inspect(id, signal);
      await restart();

      const after = await driver.list(signal);
      await driver.create(spec, signal);

      const startedAt = before?.status.running ? before.status.startedAt : Number.NaN;
      expect(after).toEqual([{ id, status: { running: true, startedAt: expect.any(Number) } }]);
      const found = after[0]?.status.running ? after[0].status.startedAt : Number.NaN;
      expect(Math.abs(found - startedAt)).toBeLessThan(2_000);
      expect(await harness.runningCount(id)).toBe(1);
      await driver.destroy(id, signal);
      expect(await harness.leftovers(id)).toEqual([]);
    });

    testIf(
      sight.ends,
      "tells at once of a machine that was killed, remembers it, and never starts it again",
      async () => {
        const spec = aSpec();
        const told: string[] = [];
        driver.onExit((id) => told.push(id));
        await created(spec);

        await harness.kill(spec.id);
        await expect.poll(() => told, WAIT).toEqual([spec.id]);
        const first = await exitOf(spec.id);
        await restart();
        await driver.create(spec, signal);

        expect(first).toBe("killed");
        expect(await exitOf(spec.id)).toBe("killed");
        expect(await harness.runningCount(spec.id)).toBe(0);
      },
    );

    testIf(
      !sight.ends,
      "counts a machine as running whose guest has ended, tells nobody, and starts no other",
      async () => {
        const [spec, other] = [aSpec(), aSpec()];
        const told: string[] = [];
        driver.onExit((id) => told.push(id));
        await created(spec);
        await created(other);

        await harness.kill(spec.id);
        await harness.guestEnds(other.id, "orderly");
        await driver.create(spec, signal);
        const seen = [await exitOf(spec.id), await exitOf(other.id)];
        await restart();

        expect([...seen, await exitOf(spec.id)]).toEqual(["running", "running", "running"]);
        expect(told).toEqual([]);
        expect(await harness.runningCount(spec.id)).toBe(0);
        await driver.destroy(spec.id, signal);
        expect(await harness.leftovers(spec.id)).toEqual([]);
      },
    );

    test("tells of the death of a machine that another driver had made", async () => {
      const id = await created();
      await restart();
      await driver.list(signal);
      const told: string[] = [];
      driver.onExit((ended) => told.push(ended));

      await lose(id);

      await expect.poll(() => told, WAIT).toEqual([id]);
    });

    test("shows a machine that ended while no driver looked", async () => {
      const id = await created();
      await driver.close();
      await lose(id);
      driver = open();

      expect(sight.ends ? ["killed", "lost"] : ["nothing"]).toContain(await exitOf(id));
    });

    test("does not tell of machines it destroyed, nor anybody who stopped listening", async () => {
      const told: string[] = [];
      const heard: string[] = [];
      driver.onExit((id) => told.push(id));
      const stop = driver.onExit((id) => heard.push(id));
      const [destroyed, killed] = [await created(), await created()];
      stop();

      await driver.destroy(destroyed, signal);
      await lose(killed);

      await expect.poll(() => told, WAIT).toEqual([killed]);
      expect(heard).toEqual([]);
    });

    test("names one relay socket per machine, which may exist before the machine", async () => {
      const spec = aSpec();
      const path = driver.relaySocket(spec.id);
      // Machines elsewhere have none, whatever their id.
      if (path === undefined) return void expect(driver.relaySocket(newMachineId())).toBeUndefined();
      await mkdir(dirname(path), { recursive: true, mode: 0o700 });
      const relay = await listen(path);

      await driver.create(spec, signal);
      const answers = await reachable(path);
      await driver.destroy(spec.id, signal);
      relay.close();

      expect(answers).toBe(true);
      expect(Buffer.byteLength(path)).toBeLessThanOrEqual(107);
      expect((await restart()).relaySocket(spec.id)).toBe(path);
      expect(driver.relaySocket(newMachineId())).not.toBe(path);
      expect(await harness.leftovers(spec.id)).toEqual([]);
    });

    testIf(!sight.consoles, "has an empty console, and ends following one at once", async () => {
      const id = await created();
      await harness.guestPrints(id, "words that nobody hears");

      expect(await collect(driver.followConsole(id, signal))).toBe("");
      expect(await driver.console(id, 4_096)).toBe("");
      expect(await driver.console(newMachineId(), 10)).toBe("");
    });

    testIf(sight.consoles, "keeps and follows the console, and knows an orderly end", async () => {
      const id = await created();
      await harness.guestUp(id);
      const following = new AbortController();
      const followed = collect(driver.followConsole(id, following.signal));

      await harness.guestPrints(id, "first words");
      await expect.poll(() => driver.console(id, 4_096), WAIT).toContain("first words");
      await harness.guestPrints(id, "last words");
      await expect.poll(() => driver.console(id, 4_096), WAIT).toContain("last words");
      await harness.guestEnds(id, "orderly");
      const text = await followed;

      expect(text).toContain("first words");
      expect(text).toContain("last words");
      expect(await exitOf(id)).toBe("orderly");
      expect(await driver.console(id, 4_096)).toContain("last words");
      expect(Buffer.byteLength(await driver.console(id, 10))).toBe(10);
      expect(await driver.console(newMachineId(), 10)).toBe("");
      await driver.destroy(id, signal);
      expect(await harness.leftovers(id)).toEqual([]);
    });

    test("stops following a console when asked", async () => {
      const id = await created();
      const following = new AbortController();
      const followed = collect(driver.followConsole(id, following.signal));

      following.abort();

      await expect(followed).resolves.toEqual(expect.any(String));
    });

    testIf(sight.ends, "knows a crash from an orderly end, and tells it to a new driver", async () => {
      const id = await created();
      await harness.guestUp(id);
      const told: string[] = [];
      driver.onExit((ended) => told.push(ended));

      await harness.guestEnds(id, "crash");
      await expect.poll(() => told, WAIT).toEqual([id]);
      await restart();

      expect(await exitOf(id)).toBe("crash");
      expect(await driver.list(signal)).toEqual([{ id, status: { running: false, exit: "crash" } }]);
    });
  });
}

/** A test that has its counterpart: one of the two applies to each driver. */
function testIf(applies: boolean, name: string, body: () => Promise<void>): void {
  if (applies) test(name, body);
}

async function collect(chunks: AsyncIterable<string>): Promise<string> {
  let text = "";
  for await (const chunk of chunks) text += chunk;
  return text;
}

function listen(path: string): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.on("error", () => {}).end()).on("error", reject);
    server.listen(path, () => resolve(server));
  });
}

function reachable(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.on("error", () => resolve(false));
  });
}
