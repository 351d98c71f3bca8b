/**
 * Real machines behind the stand-in: each boot is a QEMU microVM under emulation that finds its metadata at 169.254.169.254 and the
 * relay at its address, as a Firecracker machine on a host would. Give `onBoot` to the stand-in.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { run } from "../../src/base/process.ts";
import { findProgram } from "../../src/vm/local/processes.ts";
import { tscKhz } from "../../src/vm/qemu/accelerator.ts";
import { connectQmp } from "../../src/vm/qemu/control.ts";
import { eventually } from "../harness/eventually.ts";
import { startMetadataServer } from "./mmds.ts";
import type { Boot, GuestProcess } from "./options.ts";
import { type GuestFiles, guestArguments } from "./qemu-arguments.ts";

export interface QemuGuestsOptions {
  /** For consoles and disks; the caller's to remove, after the machines are gone. A short path: there are sockets in it. */
  readonly directory: string;
  /** What the images hold that machines are created with, as files. */
  readonly kernel: string;
  readonly initrd: string;
  /** A file system image; each machine gets a copy. */
  readonly root?: string;
  readonly relayAddress: string;
  readonly relayPort: number;
}

export interface QemuGuests {
  onBoot(boot: Boot): Promise<GuestProcess>;
  /** What the machine has printed in all of its boots. */
  console(uid: string): Promise<string>;
}

export function createQemuGuests(options: QemuGuestsOptions): QemuGuests {
  const { kernel, initrd, root, relayAddress, relayPort } = options;
  const directoryOf = (uid: string) => join(options.directory, uid);

  async function onBoot({ uid, number, spec, metadata }: Boot): Promise<GuestProcess> {
    const directory = directoryOf(uid);
    const disk = spec.rootVolume && root !== undefined ? join(directory, "disk.img") : undefined;
    const files = { kernel, initrd, disk, console: join(directory, "console"), qmp: join(directory, "qmp") };
    await mkdir(directory, { recursive: true });
    await rm(files.qmp, { force: true });
    if (disk !== undefined && number === 1)
      await run("cp", ["--sparse=always", "--reflink=auto", root ?? "", disk]);
    const service = await startMetadataServer(metadata);
    const ways = { metadataPort: service.port, relayAddress, relayPort, socat: await programOf("socat") };
    const qemu = spawn(
      await programOf("qemu-system-x86_64"),
      guestArguments(spec, files, ways, await tscKhz()),
      { stdio: ["ignore", "ignore", "pipe"] },
    );
    const ended = endOf(qemu).finally(() => service[Symbol.asyncDispose]());
    await watchForReset(qemu, files);
    return {
      ended,
      async kill() {
        qemu.kill("SIGKILL");
        await ended;
      },
    };
  }

  return {
    onBoot,
    console: (uid) => readFile(join(directoryOf(uid), "console"), "utf8").catch(() => ""),
  };
}

async function programOf(name: string): Promise<string> {
  const path = await findProgram(name);
  if (path === undefined) throw new Error(`${name} is not installed`);
  return path;
}

async function endOf(qemu: ChildProcess): Promise<void> {
  await new Promise<void>((resolve) => {
    qemu.once("exit", () => resolve());
    qemu.once("error", () => resolve());
  });
}

/** Firecracker's process ends when the guest resets its CPU, and stays, halted, after a power-off. */
async function watchForReset(qemu: ChildProcess, files: GuestFiles): Promise<void> {
  let complaint = "";
  qemu.stderr?.on("data", (text: Buffer) => {
    complaint += String(text);
  });
  const qmp = await eventually("QEMU answers", async () => {
    if (qemu.exitCode !== null) throw new Error(`QEMU ended with ${qemu.exitCode}: ${complaint}`);
    return await connectQmp(files.qmp, AbortSignal.timeout(10_000)).catch(() => undefined);
  });
  qmp.onEvent(({ event, data }) => {
    if (event === "SHUTDOWN" && data["reason"] !== "guest-shutdown") qemu.kill("SIGKILL");
  });
}
