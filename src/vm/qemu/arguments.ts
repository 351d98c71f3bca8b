import { RELAY_IN_GUEST } from "../../domain/drivers.ts";
import type { MachineSpec } from "../driver.ts";
import { FIRST_IMAGE_DISK, type HypervisorFiles } from "../local/hypervisor.ts";
import { inside } from "../local/machine-directory.ts";

/** Where the guest finds the relay, and what its own address is: the same in every machine. */
const RELAY = `${RELAY_IN_GUEST}:80`;
const GUEST_ADDRESS = "10.0.2.15/24";
const GUEST_MAC = "52:54:00:0a:00:02";
/** How long a guest's connection waits for a relay that is being restarted: 600 tries, 0.2 s apart. */
const RELAY_RETRY = "retry=600,interval=0.2";
/**
 * The translator's buffer. Measured with git, perl, tar and shell loops in one guest: 32 MiB takes as much CPU time as 64 and
 * 128, and a busy machine is 37 and 108 MiB smaller; without a limit it grows by 650 MiB.
 */
const TCG_BUFFER_MIB = 32;

/** What the hypervisor has in a machine's directory. */
export const qemuFiles: HypervisorFiles = { log: "qemu.log", control: "run/qmp.sock" };

export type Accelerator = "kvm" | "tcg";

export interface LaunchPlan {
  readonly spec: MachineSpec;
  readonly architecture: Architecture;
  readonly accelerator: Accelerator;
  /** The host's time stamp counter, which emulated guests see and cannot always measure. */
  readonly tscKhz: number | undefined;
  /** Full path of socat. */
  readonly socat: string;
}

/** The hypervisor's command line for one machine; all relative paths are below the machine's directory. */
export function qemuArguments(plan: LaunchPlan): string[] {
  const { spec } = plan;
  return [
    ...["-name", spec.id],
    ...computer(plan),
    ...["-m", `${spec.size.memoryMib}M`, "-smp", String(spec.size.cpus)],
    ...["-kernel", spec.image.kernel, "-initrd", spec.image.initramfs, "-append", kernelCommandLine(plan)],
    ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
    // Opened for appending, so that the file can be cut while the machine writes to it.
    ...["-chardev", `file,id=console,path=${inside.console},append=on`, "-serial", "chardev:console"],
    ...[
      "-chardev",
      `socket,id=qmp,path=${qemuFiles.control},server=on,wait=off`,
      "-mon",
      "chardev=qmp,mode=control",
    ],
    ...spec.image.layers.flatMap((layer, index) => disk(`layer${index}`, layer, "readonly=on,rerror=report")),
    // QEMU locks the file: a second process for the same disk refuses to start. Errors are the guest's: by default a machine stands
    // still when its host's disk is full, and with it whatever waits for it.
    ...disk(
      "scratch",
      inside.scratch,
      "cache=unsafe,discard=unmap,detect-zeroes=unmap,werror=report,rerror=report",
    ),
    ...(spec.imageDisks ?? []).flatMap((_, index) => imageDisk(index)),
    ...["-object", "rng-builtin,id=entropy", "-device", "virtio-rng-device,rng=entropy"],
    ...network(plan.socat),
    // Neither spawn=deny nor elevateprivileges=deny: each connection to the relay is a process of its own, and starting one
    // needs setsid. Rights are given up for good before the hypervisor runs (processes.ts).
    ...["-sandbox", "on,obsolete=deny,resourcecontrol=deny"],
  ];
}

/** A machine that only shows that its kernel can run: the initramfs powers off when it sees `fr.smoke`. */
export function smokeArguments(plan: Omit<LaunchPlan, "socat">): string[] {
  const { spec, architecture } = plan;
  // A panic must hang, so that an exit always means that the guest's user space was reached.
  const append = [...kernelArguments(plan), "panic=0", "fr.smoke"].join(" ");
  return [
    ...computer(plan),
    ...["-m", "512M", "-kernel", spec.image.kernel, "-initrd", spec.image.initramfs, "-append", append],
    ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"],
    ...["-name", `smoke-${architecture.program}`],
  ];
}

function computer({ architecture, accelerator }: Pick<LaunchPlan, "architecture" | "accelerator">): string[] {
  // A dump of the hypervisor would hold the job's secrets.
  const machine = ["-M", `${architecture.machine},dump-guest-core=off`];
  if (accelerator === "kvm") return [...machine, "-accel", "kvm", "-cpu", "host"];
  return [...machine, "-accel", `tcg,thread=multi,tb-size=${TCG_BUFFER_MIB}`];
}

function kernelArguments(plan: Pick<LaunchPlan, "architecture" | "accelerator" | "tscKhz">): string[] {
  const { architecture, accelerator, tscKhz } = plan;
  // Emulated, the counter follows the host's clock; the kernel's watchdog takes a busy host for a broken counter and falls back
  // to counting ticks, of which many are lost: measured, a guest's clock then loses a quarter of the time.
  const tsc =
    accelerator === "tcg" && tscKhz !== undefined ? [`tsc_early_khz=${tscKhz}`, "tsc=reliable"] : [];
  return [`console=${architecture.serialDevice}`, "quiet", ...architecture.kernelArguments, ...tsc];
}

function kernelCommandLine(plan: LaunchPlan): string {
  const { id, image } = plan.spec;
  const own = [
    `fr.machine=${id}`,
    `fr.relay=${RELAY}`,
    `fr.address=${GUEST_ADDRESS}`,
    `fr.layers=${image.layers.length}`,
  ];
  return [...kernelArguments(plan), "panic=-1", ...own].join(" ");
}

function disk(id: string, path: string, options: string): string[] {
  return [
    "-drive",
    `id=${id},file=${escapeCommas(path)},format=raw,if=none,${options}`,
    "-device",
    `virtio-blk-device,drive=${id}`,
  ];
}

/** QEMU opens a descriptor that it was given by the name of a set that holds it. */
function imageDisk(index: number): string[] {
  const set = index + 1;
  return [
    ...["-add-fd", `fd=${FIRST_IMAGE_DISK + index},set=${set}`],
    ...disk(`image${index}`, `/dev/fdset/${set}`, "readonly=on,rerror=report"),
  ];
}

/**
 * User-mode network with one hole: each connection to the relay's address becomes a socat that joins it to the machine's
 * relay socket. A chardev in its place would serve one connection in the machine's whole life.
 */
function network(socat: string): string[] {
  // Standard error is the guest's connection, too: socat must keep quiet. 30 s to answer a half-closed connection.
  const command = `${socat} -t30 -b65536 -lf/dev/null - UNIX-CONNECT:${inside.relay},${RELAY_RETRY}`;
  const forward = `guestfwd=tcp:${RELAY}-cmd:${escapeCommas(command)}`;
  return [
    ...["-netdev", `user,id=net,restrict=on,ipv6=off,net=10.0.2.0/24,${forward}`],
    ...["-device", `virtio-net-device,netdev=net,mac=${GUEST_MAC}`],
  ];
}

/** In a list of options a comma separates, and two are one. */
function escapeCommas(text: string): string {
  return text.replaceAll(",", ",,");
}

/** What differs between processors, in Debian's words for them. */
export interface Architecture {
  readonly program: string;
  /** The Debian package of the program. */
  readonly debianPackage: string;
  readonly machine: string;
  readonly serialDevice: string;
  /** One of these kernel modules must be loaded for KVM to be the real one. Empty: no module tells. */
  readonly kvmModules: readonly string[];
  /** How the guest's kernel restarts, so that a panic ends the machine as a reset. */
  readonly kernelArguments: readonly string[];
}

export const architectures: Readonly<Record<string, Architecture>> = {
  amd64: {
    program: "qemu-system-x86_64",
    debianPackage: "qemu-system-x86",
    machine: "microvm,acpi=on",
    serialDevice: "ttyS0",
    kvmModules: ["kvm_intel", "kvm_amd"],
    // ACPI's restart hangs on microvm and the keyboard controller's takes 2 s; a triple fault is immediate.
    kernelArguments: ["reboot=t"],
  },
  arm64: {
    program: "qemu-system-aarch64",
    debianPackage: "qemu-system-arm",
    machine: "virt",
    serialDevice: "ttyAMA0",
    kvmModules: [],
    kernelArguments: [],
  },
};
