/**
 * KVM or emulation. KVM counts only once the image's own kernel has come up under it within a deadline; the finding is kept
 * on disk for this boot of the host, this program and this image.
 */
import { readFile, rename, stat, writeFile } from "node:fs/promises";
import { z } from "zod";
import type { KeyedMutex } from "../../base/keyed-mutex.ts";
import { ProcessError, run } from "../../base/process.ts";
import { formatDuration } from "../../base/units.ts";
import type { BootImage } from "../../domain/images.ts";
import { VmError } from "../errors.ts";
import { type LaunchUser, unprivileged } from "../local/launch.ts";
import { hostBootId } from "../local/processes.ts";
import type { Architecture } from "./arguments.ts";
import { type Accelerator, smokeArguments } from "./arguments.ts";
import { kvmAccess, type Programs } from "./host-facts.ts";

/** What `timeout` ends with when it had to kill. */
const KILLED_STATUS = 137;

export interface Choice {
  readonly accelerator: Accelerator;
  /** The group that opens /dev/kvm, where it takes one. */
  readonly deviceGid: number | undefined;
  /** Why it is not KVM. */
  readonly note?: string;
}

export interface AcceleratorOptions {
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
