/** What this computer has for machines: KVM, memory, disk, files, and the programs that are called. */
import { access, constants, open, readFile, stat, statfs } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { systemCode } from "../../base/errors.ts";
import { requireTrusted, UntrustedError } from "../../base/trusted-file.ts";
import { formatMib, MIB_BYTES } from "../../base/units.ts";
import type { Config, LocalConfig } from "../../config/load.ts";
import type { DoctorCheck, Finding } from "./findings.ts";

const MIN_FREE_MIB = 1_024;
const COMFORTABLE_FREE_MIB = 10 * 1_024;
/** Each machine has a console, a monitor and a relay with a few connections. */
const FILES_PER_MACHINE = 64;

/** Questions to this computer that need nothing but the state directory and, where it is there, the configuration. */
export function hostChecks(local: Pick<LocalConfig, "state">, config: Config | undefined): DoctorCheck[] {
  return [
    { name: "kvm device", run: checkKvm },
    { name: "memory", run: () => checkMemory(config) },
    { name: "disk", run: () => checkDisk(local.state, config?.vm.minFreeDisk ?? MIN_FREE_MIB) },
    { name: "state", run: () => checkState(local.state) },
    { name: "open files", run: () => checkOpenFiles(config?.vm.maxMachines ?? availableParallelism() * 2) },
  ];
}

async function checkKvm(): Promise<Finding> {
  const emulated = "machines are emulated, which is several times slower";
  try {
    await using device = await open("/dev/kvm", constants.O_RDWR);
    if (!(await device.stat()).isCharacterDevice())
      return { level: "warn", message: `/dev/kvm is no device: ${emulated}` };
    // Some kernels open it and hang a guest: only a machine that has booted proves that it works.
    const message = "/dev/kvm opens; whether machines run with it is told by their trial boot, below";
    return { level: "ok", message };
  } catch (error) {
    return systemCode(error) === "EACCES"
      ? {
          level: "warn",
          message: `/dev/kvm may not be opened: ${emulated}`,
          hint: "usermod -aG kvm USER, then log in again.",
        }
      : {
          level: "warn",
          message: `there is no /dev/kvm: ${emulated}`,
          hint: "Use a computer with hardware virtualization, or switch it on (firmware; nested virtualization in a VM).",
        };
  }
}

async function checkMemory(config: Config | undefined): Promise<Finding> {
  const text = await readFile("/proc/meminfo", "utf8");
  const mib = (name: string) =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(text)?.[1] ?? 0) / 1_024;
  const [total, available] = [mib("MemTotal"), mib("MemAvailable")];
  const pools = [...(config?.pools.values() ?? [])];
  const largest = pools.toSorted((a, b) => b.size.memoryMib - a.size.memoryMib)[0];
  const message = `${formatMib(available)} of ${formatMib(total)} are available`;
  if (largest && largest.size.memoryMib > total) {
    return {
      level: "fail",
      message: `${message}, and one machine of pool ${largest.name} takes ${formatMib(largest.size.memoryMib)}`,
      hint: `Make pools.${largest.name}.size.memory smaller.`,
    };
  }
  if (largest && largest.size.memoryMib > available) {
    return {
      level: "warn",
      message: `${message}: not enough now for a machine of pool ${largest.name} (${formatMib(largest.size.memoryMib)})`,
      hint: "Its jobs wait until there is room: end other programs, or make its machines smaller.",
    };
  }
  return { level: "ok", message };
}

async function checkDisk(state: string, minFreeMib: number): Promise<Finding> {
  const directory = await nearestExisting(state);
  const { bavail, bsize } = await statfs(directory);
  const freeMib = (bavail * bsize) / MIB_BYTES;
  const message = `${formatMib(freeMib)} free for ${state}`;
  if (freeMib < minFreeMib) {
    return {
      level: "fail",
      message: `${message}: below vm.minFreeDisk, no job is claimed`,
      hint: "Free some space.",
    };
  }
  if (freeMib < COMFORTABLE_FREE_MIB) {
    return {
      level: "warn",
      message: `${message}: little for the scratch disks of jobs`,
      hint: "Free some space.",
    };
  }
  return { level: "ok", message };
}

async function checkState(state: string): Promise<Finding> {
  const directory = await nearestExisting(state);
  const exists = directory === state;
  const isWritable = await access(directory, constants.W_OK | constants.X_OK).then(
    () => true,
    () => false,
  );
  if (!isWritable) {
    return {
      level: "fail",
      message: exists
        ? `${state} may not be written by this user`
        : `${state} cannot be made: ${directory} may not be written`,
      hint: "Use the user FireRunner runs as, or name another directory with “state”.",
    };
  }
  if (!exists) return { level: "ok", message: `${state} will be made at the first start` };
  try {
    await requireTrusted(state);
  } catch (error) {
    if (!(error instanceof UntrustedError)) throw error;
    return { level: "fail", message: error.message, hint: error.remedy };
  }
  return { level: "ok", message: `${state} can be changed by this user and root alone` };
}

async function checkOpenFiles(machines: number): Promise<Finding> {
  const text = await readFile("/proc/self/limits", "utf8");
  const limit = Number(/^Max open files\s+\S+\s+(\d+)/m.exec(text)?.[1] ?? Number.POSITIVE_INFINITY);
  const needed = 256 + machines * FILES_PER_MACHINE;
  if (limit >= needed) return { level: "ok", message: `up to ${limit} at one time` };
  return {
    level: "warn",
    message: `at most ${limit} at one time; ${machines} machines may need ${needed}`,
    hint: `Raise the limit: LimitNOFILE=${needed} in the systemd unit, or ulimit -n ${needed}.`,
  };
}

async function nearestExisting(path: string): Promise<string> {
  for (let here = path; here !== "/"; here = dirname(here)) {
    const isDirectory = await stat(here).then(
      (found) => found.isDirectory(),
      () => false,
    );
    if (isDirectory) return here;
  }
  return "/";
}

interface Need {
  readonly program: string;
  /** The Debian and Ubuntu package that has it. */
  readonly package: string;
}

const toRun: readonly Need[] = [
  {
    program: process.arch === "arm64" ? "qemu-system-aarch64" : "qemu-system-x86_64",
    package: process.arch === "arm64" ? "qemu-system-arm" : "qemu-system-x86",
  },
  { program: "socat", package: "socat" },
  { program: "mkfs.ext4", package: "e2fsprogs" },
];

const toBuild: readonly Need[] = [
  { program: "mmdebstrap", package: "mmdebstrap" },
  { program: "mksquashfs", package: "squashfs-tools" },
  { program: "unsquashfs", package: "squashfs-tools" },
  { program: "newuidmap", package: "uidmap" },
  { program: "gpgv", package: "gpgv" },
  { program: "cpio", package: "cpio" },
  { program: "xz", package: "xz-utils" },
  { program: "zstd", package: "zstd" },
];

/** The programs FireRunner calls. Without those that build images it still runs images that are there. */
export function programChecks(env: NodeJS.ProcessEnv): DoctorCheck[] {
  return [
    { name: "programs", run: () => checkInstalled(env, toRun, "fail", "machines cannot be run without") },
    {
      name: "image tools",
      run: () => checkInstalled(env, toBuild, "warn", "images cannot be built without"),
    },
  ];
}

async function checkInstalled(
  env: NodeJS.ProcessEnv,
  needs: readonly Need[],
  level: "warn" | "fail",
  meaning: string,
): Promise<Finding> {
  const found = await Promise.all(
    needs.map(async (need) => ({ ...need, isThere: await isInstalled(need.program, env) })),
  );
  const missing = found.filter(({ isThere }) => !isThere);
  if (missing.length === 0) return { level: "ok", message: needs.map(({ program }) => program).join(", ") };
  const packages = [...new Set(missing.map((each) => each.package))].join(" ");
  return {
    level,
    message: `${meaning} ${missing.map(({ program }) => program).join(", ")}`,
    hint: `apt-get install ${packages}`,
  };
}

/** Programs of administrators are often outside a user's PATH. */
async function isInstalled(program: string, env: NodeJS.ProcessEnv): Promise<boolean> {
  const directories = [...(env["PATH"] ?? "").split(delimiter), "/usr/sbin", "/sbin"].filter(Boolean);
  const answers = directories.map((directory) =>
    access(join(directory, program), constants.X_OK).then(
      () => true,
      () => false,
    ),
  );
  return (await Promise.all(answers)).includes(true);
}
