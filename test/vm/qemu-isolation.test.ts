import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { newMachineId } from "../../src/base/ids.ts";
import { createKeyedMutex } from "../../src/base/keyed-mutex.ts";
import type { MachineSpec, VmDriver } from "../../src/vm/driver.ts";
import { hostProcesses, programPath } from "../../src/vm/local/processes.ts";
import { chooseAccelerator, findPrograms, smokeBoot, tscKhz } from "../../src/vm/qemu/accelerator.ts";
import { architectures } from "../../src/vm/qemu/arguments.ts";
import { createQemuHarness, type QemuHarness } from "./qemu-harness.ts";
import { tinyImage } from "./tiny-image.ts";

const WAIT = { timeout: 60_000, interval: 50 };
const signal = new AbortController().signal;
const asRoot = process.getuid?.() === 0;

describe("a machine of the qemu driver", () => {
  let harness: QemuHarness;
  let driver: VmDriver;
  const children: ChildProcess[] = [];

  beforeEach(async () => {
    harness = await createQemuHarness(await tinyImage());
    driver = harness.open();
  });

  afterEach(async () => {
    for (const child of children.splice(0)) child.kill("SIGKILL");
    await driver.close();
    await harness.dispose();
  });

  function aSpec(change: Partial<MachineSpec> = {}): MachineSpec {
    const size = { cpus: 1, memoryMib: 128, diskMib: 64 };
    return { id: newMachineId(), size, image: harness.image, ...change };
  }

  async function hypervisorOf(id: string) {
    const all = await harness.processes(id);
    const found = all.find((each) => each.args.includes("-kernel"));
    if (!found) throw new Error(`no hypervisor of ${id}`);
    return found;
  }

  /** A manager in a process of its own. Resolves when it has printed `word`. */
  async function manager(id: string, word: string): Promise<ChildProcess> {
    const program = fileURLToPath(new URL("./create-and-die.ts", import.meta.url));
    const args = [program, harness.stateDirectory, id, JSON.stringify(harness.image)];
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
    children.push(child);
    let text = "";
    child.stdout?.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
    });
    await expect.poll(() => text.split("\n"), WAIT).toContain(word);
    return child;
  }

  test("has its image disks in order and read-only, though only this program can open them", async () => {
    const directory = await mkdtemp(join(tmpdir(), "fr-image-disks-"));
    try {
      const imageDisks = ["first", "second"].map((name) => join(directory, name));
      for (const path of imageDisks)
        await writeFile(path, `${basename(path)}\n`.padEnd(512, " "), { mode: 0o600 });
      const spec = aSpec({ imageDisks });
      await driver.create(spec, signal);
      // It has them open: one that is evicted from a cache meanwhile stays good.
      await rm(directory, { recursive: true });
      await harness.guestUp(spec.id);
      await harness.command(
        spec.id,
        '$b mkdir /sys; $b mount -t sysfs sys /sys; for d in b c; do $b head -c 6 /dev/vd$d; echo "=$d ro=$($b cat /sys/block/vd$d/ro)"; done',
      );

      const console = async () => await driver.console(spec.id, 10_000);
      await expect.poll(console, WAIT).toMatch(/first\s+=b ro=1\s+second=c ro=1/);
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  });

  test("cannot be made with an image disk that is not there, and leaves nothing", async () => {
    const spec = aSpec({ imageDisks: ["/nonexistent/image.sqfs"] });

    await expect(driver.create(spec, signal)).rejects.toMatchObject({
      code: "vm_bad_spec",
      message: expect.stringContaining("/nonexistent/image.sqfs"),
    });
    expect(await harness.leftovers(spec.id)).toEqual([spec.id]);
  });

  test("has no rights, and no user in common with another machine", async () => {
    const [one, other] = [aSpec(), aSpec()];
    await Promise.all([driver.create(one, signal), driver.create(other, signal)]);
    const [first, second] = [await hypervisorOf(one.id), await hypervisorOf(other.id)];
    const status = await readFile(`/proc/${first.pid}/status`, "utf8");
    const directory = await stat(join(harness.stateDirectory, "machines", one.id));

    expect(status).toMatch(/NoNewPrivs:\t1/);
    expect(status).toMatch(/Seccomp:\t2/);
    expect(directory.mode & 0o027).toBe(0);
    expect(await readFile(`/proc/${first.pid}/limits`, "utf8")).toMatch(/Max file size +67108864 /);
    if (!asRoot) return;
    expect(first.uid).toBeGreaterThanOrEqual(1_900_000_000);
    expect(second.uid).not.toBe(first.uid);
    expect(status).toMatch(/CapBnd:\t0+\n/);
    expect(status).toMatch(/Groups:\t\s*\n/);
    expect(directory.uid).toBe(0);
  });

  test.skipIf(!asRoot)("takes with it all that runs as its user, whatever that says of itself", async () => {
    const [spec, neighbour] = [aSpec(), aSpec()];
    const elsewhere = await createQemuHarness(harness.image);
    const [other, stranger] = [elsewhere.open(), aSpec()];
    await Promise.all([
      ...[spec, neighbour].map((each) => driver.create(each, signal)),
      other.create(stranger, signal),
    ]);
    const { uid } = await hypervisorOf(spec.id);
    const strangers = await elsewhere.processes(stranger.id);
    const pretend = { FIRERUNNER_MACHINE: join(elsewhere.stateDirectory, "machines", stranger.id) };
    // Never the same process for long.
    const restless = { S: 'sh -c "$S" & exit' };
    const asItsUser = ["--reuid", String(uid), "--regid", String(uid), "--clear-groups", "--"];
    const start = (env: Record<string, string>, ...program: string[]) =>
      children.push(spawn("setpriv", [...asItsUser, ...program], { env: { PATH: programPath, ...env } }));
    start(pretend, "sleep", "600");
    start({}, "sleep", "600");
    start({ ...pretend, ...restless }, "sh", "-c", restless.S);
    const ofUser = async () => (await hostProcesses((each) => each === uid)).length;
    await expect.poll(ofUser, WAIT).toBeGreaterThan(3);

    await driver.destroy(spec.id, signal);

    expect(await ofUser()).toBe(0);
    expect(strangers[0]?.uid).not.toBe(uid);
    expect(await driver.list(signal)).toMatchObject([{ id: neighbour.id, status: { running: true } }]);
    expect(await other.list(signal)).toMatchObject([{ id: stranger.id, status: { running: true } }]);
    await other.close();
    await elsewhere.dispose();
  });

  test("reaches its relay, also one that is away at first, and nothing else", async () => {
    const spec = aSpec();
    const host = createServer((socket) => socket.end("the host's own service\n"));
    await new Promise<void>((resolve) => host.listen(0, "127.0.0.1", resolve));
    const { port } = host.address() as { port: number };
    await driver.create(spec, signal);
    // Nobody listens until the guest has asked.
    await expect.poll(() => driver.console(spec.id, 10_000), WAIT).toContain("tiny: up");
    await expect.poll(async () => (await harness.processes(spec.id)).length, WAIT).toBe(2);

    await harness.command(spec.id, "echo the relay came; cat /proc/cmdline");
    await harness.command(spec.id, `$b nc -w 2 10.0.2.2 ${port} </dev/null; echo asked the host: $?`);
    await expect.poll(() => driver.console(spec.id, 10_000), WAIT).toMatch(/asked the host: [1-9]/);
    const text = await driver.console(spec.id, 10_000);
    host.close();
    await driver.destroy(spec.id, signal);

    expect(text).toContain("the relay came");
    expect(text).toContain(`fr.machine=${spec.id} fr.relay=10.0.2.100:80`);
    expect(text).not.toContain("the host's own service");
    expect(await harness.leftovers(spec.id)).toEqual([]);
  });

  test("cannot fill the disk with its console", async () => {
    const spec = aSpec();
    await driver.create(spec, signal);
    await harness.guestUp(spec.id);
    const path = join(harness.stateDirectory, "machines", spec.id, "console.log");
    await writeFile(path, "x".repeat(3 * 1024 ** 2), { flag: "a" });

    await expect.poll(async () => (await stat(path)).size, WAIT).toBeLessThan(1024 ** 2);
    await truncate(path, 0);
    await harness.guestPrints(spec.id, "after the cut");

    await expect.poll(() => readFile(path, "utf8"), WAIT).toMatch(/^[\w\s:]*after the cut/);
  });

  test("lives on when the manager is killed, and is found by the next", async () => {
    const id = newMachineId();
    const child = await manager(id, "created");
    const before = await hypervisorOf(id);

    child.kill("SIGKILL");
    await once(child, "exit");

    expect(await driver.list(signal)).toMatchObject([{ id, status: { running: true } }]);
    expect((await hypervisorOf(id)).pid).toBe(before.pid);
  });

  test("is neither doubled nor left when the manager dies while it creates it", async () => {
    // From before the directory exists to after the hypervisor runs.
    for (const dieAfterMs of [0, 10, 20, 30, 40, 60, 90, 140]) {
      const spec = aSpec();
      const child = await manager(spec.id, "creating");
      await new Promise((resolve) => setTimeout(resolve, dieAfterMs));
      child.kill("SIGKILL");
      await once(child, "exit");

      const found = (await driver.list(signal)).map((machine) => machine.id);
      const running = await harness.runningCount(spec.id);
      await driver.create(spec, signal);

      expect(found.length, `after ${dieAfterMs} ms`).toBeGreaterThanOrEqual(running);
      expect(await harness.runningCount(spec.id), `after ${dieAfterMs} ms`).toBe(1);
      await driver.destroy(spec.id, signal);
      expect(await harness.leftovers(spec.id), `after ${dieAfterMs} ms`).toEqual([]);
    }
  });

  test("is listed and destroyed also when its directory was taken away", async () => {
    const spec = aSpec();
    await driver.create(spec, signal);
    await rm(join(harness.stateDirectory, "machines", spec.id), { recursive: true });

    expect(await driver.list(signal)).toMatchObject([{ id: spec.id, status: { running: true } }]);
    await driver.destroy(spec.id, signal);
    expect(await harness.leftovers(spec.id)).toEqual([]);
  });

  test("is not started from a broken or closed image, nor without disk space, and leaves no process", async () => {
    const { image } = harness;
    const closed = await mkdtemp(join(tmpdir(), "fr-closed-"));
    const kernel = join(closed, "vmlinux");
    await writeFile(kernel, "no kernel");
    const noKernel = aSpec({ image: { ...image, kernel: join(closed, "none") } });
    const badKernel = aSpec({ image: { ...image, kernel } });
    const huge = aSpec({ size: { cpus: 1, memoryMib: 128, diskMib: 16 * 1024 ** 2 } });

    await expect(driver.create(noKernel, signal)).rejects.toMatchObject({ code: "vm_image_broken" });
    if (asRoot) await expect(driver.create(badKernel, signal)).rejects.toThrow(/closed to the unprivileged/);
    await chmod(closed, 0o755);
    await expect(driver.create(badKernel, signal)).rejects.toMatchObject({
      code: "vm_create_failed",
      message: expect.stringContaining("ended at once: "),
    });
    await expect(driver.create(huge, signal)).rejects.toMatchObject({
      code: expect.stringMatching(/vm_disk_full|vm_create/),
    });

    for (const { id } of [noKernel, badKernel, huge]) {
      expect(await harness.runningCount(id)).toBe(0);
      await driver.destroy(id, signal);
      expect(await harness.leftovers(id)).toEqual([]);
    }
    await rm(closed, { recursive: true });
  });

  test("is watched by a driver that must wait for the control connection, and not by a closed one", async () => {
    const spec = aSpec();
    const told: string[] = [];
    driver.onExit((id) => told.push(id));
    await driver.create(spec, signal);
    const second = harness.open();
    await second.list(signal);

    await driver.close();
    await harness.kill(spec.id);

    const machine = await second.inspect(spec.id, signal);
    await second.close();
    expect(machine?.status).toMatchObject({ running: false, exit: expect.stringMatching(/killed|lost/) });
    expect(told).toEqual([]);
  });
});

describe("the accelerator", () => {
  let directory: string;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "fr-accelerator-"));
  });

  afterEach(() => rm(directory, { recursive: true }));

  const smokeUid = asRoot ? 1_900_009_999 : undefined;
  const user = smokeUid === undefined ? undefined : { uid: smokeUid, deviceGid: undefined };

  async function aBoot() {
    const architecture = architectures["amd64"]!;
    const image = await tinyImage();
    return { image, architecture, programs: await findPrograms(architecture), tscKhz: await tscKhz(), user };
  }

  test("is proved by a trial boot, which fails for what does not boot", async () => {
    const boot = { ...(await aBoot()), accelerator: "tcg" as const };
    const kernel = join(directory, "kernel");
    await chmod(directory, 0o755);
    await writeFile(kernel, "no kernel");

    const good = await smokeBoot({ ...boot, deadlineMs: 60_000 }, signal);
    const slow = await smokeBoot({ ...boot, deadlineMs: 300 }, signal);
    const bad = await smokeBoot({ ...boot, image: { ...boot.image, kernel }, deadlineMs: 60_000 }, signal);

    expect(good).toBeUndefined();
    expect(slow).toContain("did not come up within 300 ms");
    expect(bad).toContain("a trial boot failed: ");
  });

  test("is emulation where KVM cannot be proved, with the reason; asked for alone, it is refused", async () => {
    const cachePath = join(directory, "verdict.json");
    const host = await aBoot();
    // A host whose KVM works is told by its own module; this one never has it.
    const architecture = { ...host.architecture, kvmModules: ["kvm_of_nobody"] };
    const choose = (wanted: "auto" | "kvm" | "tcg") =>
      chooseAccelerator(
        { wanted, trialBootMs: 20_000, cachePath, trialUid: smokeUid, trialBoots: createKeyedMutex() },
        { ...host, architecture },
        signal,
      );

    expect(await choose("auto")).toMatchObject({
      accelerator: "tcg",
      note: expect.stringContaining("emulated"),
    });
    expect(await choose("tcg")).toEqual({ accelerator: "tcg", deviceGid: undefined });
    await expect(choose("kvm")).rejects.toMatchObject({ code: "vm_unusable" });
  });

  test("is KVM only if this host's KVM boots the image, which is asked once", async () => {
    const cachePath = join(directory, "verdict.json");
    const host = await aBoot();
    // Any module will do here: the trial boot is the judge.
    const architecture = { ...host.architecture, kvmModules: [] };
    const options = {
      wanted: "auto" as const,
      trialBootMs: 20_000,
      cachePath,
      trialUid: undefined,
      trialBoots: createKeyedMutex(),
    };

    const both = await Promise.all(
      [1, 2].map(() => chooseAccelerator(options, { ...host, architecture }, signal)),
    );

    expect(both[0]).toEqual(both[1]);
    if (both[0]?.accelerator === "tcg") expect(both[0].note).toMatch(/kvm|trial boot/);
    else expect(await readFile(cachePath, "utf8")).toContain('"problem":null');
  });
});
