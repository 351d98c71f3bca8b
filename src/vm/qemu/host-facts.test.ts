import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { machineFiles, readExit, socketPathExcess, writeExit } from "../local/machine-directory.ts";
import { checkImageAccess } from "../local/users.ts";
import { findPrograms, kvmAccess, qemuVersion, tscKhz, tscKhzOfCpuinfo } from "./accelerator.ts";
import type { Architecture } from "./arguments.ts";
import { architectures, qemuFiles } from "./arguments.ts";
import { exitOfReason } from "./control.ts";

const amd64 = architectures["amd64"] as Architecture;
const signal = new AbortController().signal;

describe("what the driver knows of its host", () => {
  let directory: string;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "fr-host-"));
    await chmod(directory, 0o755);
  });

  afterEach(() => rm(directory, { recursive: true }));

  async function aProgram(script: string): Promise<string> {
    const path = join(directory, "program");
    await writeFile(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    return path;
  }

  test("names missing programs and the packages that bring them", async () => {
    const odd = { ...amd64, program: "qemu-system-pdp11", debianPackage: "qemu-system-misc" };

    await expect(findPrograms(odd)).rejects.toMatchObject({
      code: "vm_unusable",
      message: "not installed: qemu-system-pdp11",
      hint: "install with: apt-get install qemu-system-misc",
    });
  });

  test("reads the hypervisor's version, and refuses old and broken ones", async () => {
    const good = await qemuVersion(await aProgram("echo 'QEMU emulator version 7.2.22 (Debian)'"), signal);
    const old = qemuVersion(await aProgram("echo 'QEMU emulator version 4.2.1'"), signal);
    await expect(old).rejects.toMatchObject({ code: "vm_unusable", hint: expect.stringContaining("6.0") });
    const broken = qemuVersion(await aProgram("exit 127"), signal);
    await expect(broken).rejects.toMatchObject({ code: "vm_unusable" });

    expect(good).toBe("7.2.22");
  });

  test("reads the clock rate", async () => {
    expect(tscKhzOfCpuinfo("processor\t: 0\ncpu MHz\t\t: 2445.430\nflags: x\ncpu MHz\t\t: 800.000\n")).toBe(
      2_445_430,
    );
    expect(tscKhzOfCpuinfo("CPU implementer : 0x41\n")).toBeUndefined();
    expect(await tscKhz()).toSatisfy((khz) => khz === undefined || Number(khz) > 100_000);
  });

  test("takes KVM only from the processor's own module", async () => {
    const foreign = await kvmAccess({ ...amd64, kvmModules: ["kvm_of_nobody"] }, false);

    expect(foreign).toMatchObject({ problem: expect.stringMatching(/no \/dev\/kvm|kvm_of_nobody/) });
  });

  test("checks that an image is there, and open to the users who boot it", async () => {
    const closed = join(directory, "closed");
    await mkdir(closed, { mode: 0o700 });
    const file = join(closed, "vmlinux");
    await writeFile(file, "");
    const image = { digest: "sha256:1", architecture: "amd64", kernel: file, initramfs: file, layers: [] };

    await checkImageAccess(image, false);
    const barred = checkImageAccess(image, true);
    await expect(barred).rejects.toMatchObject({
      code: "vm_image_broken",
      hint: expect.stringContaining(`chmod o+x ${closed}`),
    });
    await chmod(closed, 0o711);
    await checkImageAccess(image, true);
    await chmod(file, 0o600);
    await expect(checkImageAccess(image, true)).rejects.toMatchObject({
      hint: expect.stringContaining(`chmod o+r ${file}`),
    });
    const missing = checkImageAccess({ ...image, layers: [join(directory, "none")] }, false);
    await expect(missing).rejects.toMatchObject({ code: "vm_image_broken" });
  });

  test("knows ends by their reasons and remembers them", async () => {
    const files = machineFiles(directory, "fr-aaaaaaaa", qemuFiles);
    await writeExit(files, { exit: "orderly" });
    const nowhere = await readExit(files);
    await mkdir(files.directory);
    await writeExit(files, { exit: "host-disk", words: "it held 3 GiB" });

    expect(nowhere).toBeUndefined();
    expect(await readExit(files)).toEqual({ exit: "host-disk", words: "it held 3 GiB" });
    await writeExit(files, { exit: "crash" });
    expect(await readExit(files)).toEqual({ exit: "crash" });
    await writeFile(files.exit, "torn");
    expect(await readExit(files)).toBeUndefined();
    const reasons = [
      "guest-shutdown",
      "guest-reset",
      "guest-panic",
      "host-qmp-quit",
      "host-signal",
      undefined,
    ];
    expect(reasons.map(exitOfReason)).toEqual(["orderly", "crash", "crash", "killed", "killed", "killed"]);
  });

  test("knows which directories are too deep for sockets", () => {
    expect(socketPathExcess("/var/lib/firerunner/machines", qemuFiles)).toBe(0);
    expect(socketPathExcess(`/${"d".repeat(200)}`, qemuFiles)).toBeGreaterThan(90);
  });
});
