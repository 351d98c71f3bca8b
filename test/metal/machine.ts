/**
 * Emulated metal: a host whose emulated processor has AMD's SVM, so that the kernel's own KVM module drives it and real
 * machines run on it, slowly. It reaches nothing outside but the ports named; its disks are new each time.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeScratchDisk } from "../../src/vm/local/machine-directory.ts";
import { tscKhz } from "../../src/vm/qemu/accelerator.ts";
import { architectures } from "../../src/vm/qemu/arguments.ts";
import { listenForAgent, type RunInside } from "./agent.ts";

export interface MetalOptions {
  readonly kernel: string;
  readonly initramfs: string;
  /** Stacked to the root file system; the last one has the host's first program. */
  readonly layers: readonly string[];
  /** Mounted read-only, in this order. */
  readonly disks?: readonly { readonly file: string; readonly at: string }[];
  readonly memoryMib?: number;
  /**
   * Emulated processors, 1 by default. With two the emulator hung once in four runs of the qemu driver's tests: both went round
   * in the kernel's breakpoint handler, while it was changing its own code as a machine came.
   */
  readonly cpus?: number;
  /** Ports of 127.0.0.1 that lead to ports inside. */
  readonly forward?: readonly { readonly from: number; readonly to: number }[];
  /** Ports of 127.0.0.1 here that are reached inside as 10.0.2.101 and the same port. */
  readonly reach?: readonly number[];
}

export interface Metal extends AsyncDisposable {
  /** From the start of QEMU until the first command could be run. */
  readonly bootMs: number;
  /** Runs a shell script inside as root. What it prints comes back whole, and line by line on the way. */
  run(script: string, options?: RunInside): Promise<{ status: number; output: string }>;
  console(): Promise<string>;
}

const AGENT = "10.0.2.100:80";
/** Not the agent's address: machines of a fleet have it themselves, as their server to the relay. */
export const OUTSIDE = "10.0.2.101";
const BOOT_DEADLINE_MS = 180_000;
const DISK_MIB = 48 * 1024;

export async function startMetal(options: MetalOptions): Promise<Metal> {
  const directory = await mkdtemp(join(tmpdir(), "fr-metal-"));
  const agent = await listenForAgent(join(directory, "agent.sock"));
  const scratch = { path: join(directory, "scratch.img"), sizeMib: DISK_MIB, mkfs: "/sbin/mkfs.ext4" };
  await makeScratchDisk({ ...scratch, minFreeMib: 4_096 }, AbortSignal.timeout(BOOT_DEADLINE_MS));
  const startedAt = performance.now();
  const child = spawn(architectures["amd64"]?.program ?? "", await metalArguments(options), {
    cwd: directory,
    stdio: ["ignore", "inherit", "inherit"],
  });
  const ended = new Promise<never>((_, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`the emulated host ended with status ${code}`)));
  });
  ended.catch(() => {});
  const run: Metal["run"] = (script, more = {}) => Promise.race([agent.run(script, more), ended]);
  const console = async () => await readFile(join(directory, "console.log"), "utf8").catch(() => "");
  async function dispose(): Promise<void> {
    await stop(child);
    await agent.close();
    await rm(directory, { recursive: true, force: true });
  }
  try {
    await run("true", { silenceMs: BOOT_DEADLINE_MS });
  } catch (cause) {
    const last = (await console()).slice(-2_000);
    await dispose();
    throw new Error(`the emulated host did not come up: ${last}`, { cause });
  }
  return { bootMs: performance.now() - startedAt, run, console, [Symbol.asyncDispose]: dispose };
}

async function metalArguments(options: MetalOptions): Promise<string[]> {
  const { layers, disks = [], forward = [], reach = [] } = options;
  const files = [...layers, undefined, ...disks.map(({ file }) => file)];
  const mounts = disks.map(({ at }, index) => `${letter(layers.length + 1 + index)}:${at}`);
  const khz = await tscKhz();
  const append = [
    "console=ttyS0 quiet panic=-1 reboot=t mitigations=off",
    ...(khz === undefined ? [] : [`tsc_early_khz=${khz}`, "tsc=reliable"]),
    `fr.layers=${layers.length} fr.address=10.0.2.15/24 metal.now=${Math.floor(Date.now() / 1_000)}`,
    ...(mounts.length > 0 ? [`metal.disks=${mounts.join()}`] : []),
  ];
  const holes = [
    `guestfwd=tcp:${AGENT}-cmd:socat -t30 -lf/dev/null - UNIX-CONNECT:agent.sock`,
    ...forward.map(({ from, to }) => `hostfwd=tcp:127.0.0.1:${from}-10.0.2.15:${to}`),
    ...reach.map(
      (port) => `guestfwd=tcp:${OUTSIDE}:${port}-cmd:socat -t30 -lf/dev/null - TCP4:127.0.0.1:${port}`,
    ),
  ];
  return [
    ...[
      "-M",
      "microvm,acpi=on,ioapic2=on",
      "-accel",
      "tcg,thread=multi,tb-size=1024",
      "-cpu",
      "EPYC,+svm,+npt",
    ],
    ...[
      "-smp",
      String(options.cpus ?? 1),
      "-m",
      `${options.memoryMib ?? 6_144}M`,
      "-nodefaults",
      "-no-user-config",
      "-display",
      "none",
    ],
    ...["-no-reboot", "-kernel", options.kernel, "-initrd", options.initramfs, "-append", append.join(" ")],
    ...["-chardev", "file,id=console,path=console.log", "-serial", "chardev:console"],
    ...files.flatMap((file, index) => disk(`disk${index}`, file)),
    ...["-object", "rng-builtin,id=entropy", "-device", "virtio-rng-device,rng=entropy"],
    ...["-netdev", `user,id=net,restrict=on,ipv6=off,net=10.0.2.0/24,${holes.join()}`],
    ...["-device", "virtio-net-device,netdev=net,mac=52:54:00:0a:00:02"],
  ];
}

function letter(index: number): string {
  return String.fromCharCode("a".charCodeAt(0) + index);
}

function disk(id: string, file: string | undefined): string[] {
  const drive =
    file === undefined ? "file=scratch.img,cache=unsafe,discard=unmap" : `file=${file},readonly=on`;
  return ["-drive", `id=${id},if=none,format=raw,${drive}`, "-device", `virtio-blk-device,drive=${id}`];
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await ended;
}
