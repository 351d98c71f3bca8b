/**
 * What the driver must know of this computer: programs, the time stamp counter, and whether KVM can be used or machines are emulated. KVM
 * counts only once the image's own kernel has come up under it within a deadline; the finding is kept on disk for this boot of the host,
 * this program and this image.
 */
import { constants } from "node:fs";
import { access, open, readFile, rename, stat, writeFile } from "node:fs/promises";
import { z } from "zod";
import type { KeyedMutex } from "../../base/keyed-mutex.ts";
import { ProcessError, run } from "../../base/process.ts";
import { formatDuration } from "../../base/units.ts";
import type { BootImage } from "../../domain/images.ts";
import { VmError } from "../errors.ts";
import { findProgram, hostBootId, type LaunchUser, unprivileged } from "../local/processes.ts";
import { type Accelerator, type Architecture, smokeArguments } from "./arguments.ts";

/** What `timeout` ends with when it had to kill. */
const KILLED_STATUS = 137;

export interface Choice {
  readonly accelerator: Accelerator;
  /** The group that opens /dev/kvm, where it takes one. */
  readonly deviceGid: number | undefined;
  /** Why it is not KVM. */
  readonly note?: string;
}

interface AcceleratorOptions {
  readonly wanted: "auto" | "kvm" | "tcg";
  /** How long a trial boot may take. */
  readonly trialBootMs: number;
  /** Where the finding is kept. */
  readonly cachePath: string;
  /** The user for smoke boots, when machines have users of their own. */
  readonly trialUid: number | undefined;
  /** One trial boot at a time: side by side they would spoil each other's deadline. */
  readonly trialBoots: KeyedMutex;
}

interface SmokeBoot {
  readonly image: BootImage;
  readonly architecture: Architecture;
  readonly programs: Programs;
  readonly accelerator: Accelerator;
  readonly tscKhz: number | undefined;
  readonly user: LaunchUser | undefined;
  readonly deadlineMs: number;
}

export async function chooseAccelerator(
  options: AcceleratorOptions,
  host: Pick<SmokeBoot, "image" | "architecture" | "programs">,
  signal: AbortSignal,
): Promise<Choice> {
  if (options.wanted === "tcg") return { accelerator: "tcg", deviceGid: undefined };
  const problem = await kvmProblem(options, host, signal);
  if (typeof problem !== "string") return { accelerator: "kvm", deviceGid: problem.gid };
  if (options.wanted === "auto")
    return { accelerator: "tcg", deviceGid: undefined, note: `machines are emulated: ${problem}` };
  throw new VmError("vm_unusable", `KVM is asked for but cannot be used: ${problem}`, {
    hint: "set vm.qemu.accelerator to auto or tcg to run machines by emulation, which is slow",
  });
}

async function kvmProblem(
  options: AcceleratorOptions,
  host: Pick<SmokeBoot, "image" | "architecture" | "programs">,
  signal: AbortSignal,
): Promise<string | { gid: number | undefined }> {
  const device = await kvmAccess(host.architecture, options.trialUid !== undefined);
  if ("problem" in device) return device.problem;
  const { trialUid, trialBootMs: deadlineMs } = options;
  const user = trialUid === undefined ? undefined : { uid: trialUid, deviceGid: device.gid };
  const boot: SmokeBoot = { ...host, accelerator: "kvm", tscKhz: undefined, user, deadlineMs };
  const finding = await options.trialBoots.run(options.cachePath, async () =>
    remembered(options.cachePath, await probeKey(boot), () => smokeBoot(boot, signal)),
  );
  if (finding === undefined) return { gid: device.gid };
  return `${finding}; remove ${options.cachePath} to have it tried again`;
}

/** Boots the image's kernel and initramfs to its user space and off again. Returns what went wrong, or undefined. */
export async function smokeBoot(boot: SmokeBoot, signal: AbortSignal): Promise<string | undefined> {
  const spec = { id: "smoke", size: { cpus: 1, memoryMib: 512, diskMib: 0 }, image: boot.image };
  const [command, ...args] = unprivileged(boot.programs, boot.user, 1, [
    boot.programs.qemu,
    ...smokeArguments({ ...boot, spec }),
  ]);
  const seconds = String(boot.deadlineMs / 1_000);
  try {
    // The deadline holds also when this program dies meanwhile.
    await run(boot.programs.timeout, ["--signal=KILL", seconds, command, ...args], { cwd: "/", signal });
    return undefined;
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof ProcessError)) throw error;
    const killed = error.exitCode === KILLED_STATUS || error.exitCode === null;
    if (killed && error.stderrTail === "")
      return `a trial boot did not come up within ${formatDuration(boot.deadlineMs)}`;
    return `a trial boot failed: ${error.stderrTail.trim().split("\n").at(-1) || error.message}`;
  }
}

/** Everything that a finding depends on: this boot of the host, the program, the image, the user and the deadline. */
async function probeKey({ programs, image, user, deadlineMs }: SmokeBoot): Promise<string> {
  const { mtimeMs } = await stat(programs.qemu);
  return [
    await hostBootId(),
    programs.qemu,
    mtimeMs,
    image.digest,
    user?.uid,
    user?.deviceGid,
    deadlineMs,
  ].join(" ");
}

const Finding = z.object({ key: z.string(), problem: z.string().nullable() });

/**
 * What `test` found out the last time it was asked with this key: a problem in words, or undefined for none. Only the latest
 * key is kept. A file that cannot be read or is torn only means that the test is made again.
 */
export async function remembered(
  path: string,
  key: string,
  test: () => Promise<string | undefined>,
): Promise<string | undefined> {
  const known = await readFinding(path);
  if (known?.key === key) return known.problem ?? undefined;
  const problem = await test();
  const finding: z.infer<typeof Finding> = { key, problem: problem ?? null };
  await writeFile(`${path}.new`, JSON.stringify(finding), { mode: 0o600 });
  await rename(`${path}.new`, path);
  return problem;
}

async function readFinding(path: string): Promise<z.infer<typeof Finding> | undefined> {
  try {
    return Finding.parse(JSON.parse(await readFile(path, "utf8")));
  } catch {
    return undefined;
  }
}

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
