/** What the driver must know of this computer: programs, the time stamp counter, and whether /dev/kvm can be used. */
import { constants } from "node:fs";
import { access, open, readFile, stat } from "node:fs/promises";
import { run } from "../../base/process.ts";
import { VmError } from "../errors.ts";
import { findProgram } from "../local/processes.ts";
import type { Architecture } from "./arguments.ts";

const OLDEST_VERSION = 6;

export interface Programs {
  readonly qemu: string;
  readonly socat: string;
  readonly mkfs: string;
  readonly setpriv: string;
  readonly prlimit: string;
  readonly timeout: string;
}

/** Throws `vm_unusable` naming every program that is missing and the Debian packages that bring them. */
export async function findPrograms(architecture: Architecture): Promise<Programs> {
  const wanted = [
    [architecture.program, architecture.debianPackage],
    ["socat", "socat"],
    ["mkfs.ext4", "e2fsprogs"],
    ["setpriv", "util-linux"],
    ["prlimit", "util-linux"],
    ["timeout", "coreutils"],
  ] as const;
  const found = await Promise.all(wanted.map(([name]) => findProgram(name)));
  const missing = wanted.filter((_, index) => found[index] === undefined);
  if (missing.length > 0) {
    const packages = [...new Set(missing.map(([, debianPackage]) => debianPackage))].join(" ");
    throw new VmError("vm_unusable", `not installed: ${missing.map(([name]) => name).join(", ")}`, {
      hint: `install with: apt-get install ${packages}`,
    });
  }
  const [qemu = "", socat = "", mkfs = "", setpriv = "", prlimit = "", timeout = ""] = found;
  return { qemu, socat, mkfs, setpriv, prlimit, timeout };
}

/** `7.2.22`. Throws `vm_unusable` when the program does not run or is too old. */
export async function qemuVersion(program: string, signal: AbortSignal): Promise<string> {
  let text: string;
  try {
    text = await run(program, ["--version"], { signal });
  } catch (cause) {
    signal.throwIfAborted();
    throw new VmError("vm_unusable", `${program} does not run`, { cause, hint: "reinstall its package" });
  }
  const version = /version (\d+\.\d+(\.\d+)?)/.exec(text)?.[1];
  if (version === undefined || Number.parseInt(version, 10) < OLDEST_VERSION) {
    const hint = `QEMU ${OLDEST_VERSION}.0 or newer is needed`;
    throw new VmError("vm_unusable", `${program} is of version ${version ?? "unknown"}`, { hint });
  }
  return version;
}

/**
 * The rate of the host's time stamp counter in kHz, from what /proc/cpuinfo says. Where the CPU changes its speed that is
 * the speed of the moment, and the fixed base speed in sysfs is the better source.
 */
export async function tscKhz(): Promise<number | undefined> {
  const cpufreq = "/sys/devices/system/cpu/cpu0/cpufreq";
  for (const name of ["base_frequency", "bios_limit", "cpuinfo_max_freq"]) {
    const khz = Number(await readFile(`${cpufreq}/${name}`, "utf8").catch(() => ""));
    if (khz > 0) return khz;
  }
  return tscKhzOfCpuinfo(await readFile("/proc/cpuinfo", "utf8").catch(() => ""));
}

export function tscKhzOfCpuinfo(cpuinfo: string): number | undefined {
  const mhz = Number(/^cpu MHz\s*:\s*([\d.]+)/m.exec(cpuinfo)?.[1]);
  return mhz > 0 ? Math.round(mhz * 1_000) : undefined;
}

/** How /dev/kvm can be opened by the machines' user, or why it cannot. */
type KvmAccess = { readonly gid: number | undefined } | { readonly problem: string };

/**
 * A device is not enough: other modules than the processor's own (kvm_pvm of some clouds) offer the same interface and hang
 * on stock kernels. What passes here must still show in a smoke boot that it works.
 */
export async function kvmAccess(architecture: Architecture, separateUser: boolean): Promise<KvmAccess> {
  const device = await stat("/dev/kvm").catch(() => undefined);
  if (!device) return { problem: "there is no /dev/kvm" };
  const modules = architecture.kvmModules;
  const loaded = await Promise.all(modules.map((name) => stat(`/sys/module/${name}`).catch(() => undefined)));
  if (modules.length > 0 && loaded.every((module) => module === undefined))
    return { problem: `/dev/kvm is there, but neither ${modules.join(" nor ")} drives it` };
  if (!separateUser) return await openedByUs();
  if ((device.mode & 0o006) === 0o006) return { gid: undefined };
  if ((device.mode & 0o060) === 0o060) return { gid: device.gid };
  return {
    problem: "/dev/kvm is open to root only; give it a group: chgrp kvm /dev/kvm; chmod 660 /dev/kvm",
  };
}

async function openedByUs(): Promise<KvmAccess> {
  try {
    await access("/dev/kvm", constants.R_OK | constants.W_OK);
    await (await open("/dev/kvm", "r+")).close();
    return { gid: undefined };
  } catch {
    return { problem: "/dev/kvm may not be opened by this user; add the user to the group kvm" };
  }
}
