/** A Firecracker machine in QEMU's words: its devices, its two networks, and the kernel's command line that flintlockd makes. */
import type { MicroVMSpec, NetworkInterface } from "../../src/vm/flintlock/gen/types_pb.js";
import { networkConfig } from "./network-config.ts";

export interface GuestFiles {
  readonly kernel: string;
  readonly initrd: string;
  /** The machine's own copy of the root image: /dev/vda. */
  readonly disk: string | undefined;
  readonly console: string;
  readonly qmp: string;
}

export interface GuestWays {
  /** Where this machine's metadata is served, on loopback. */
  readonly metadataPort: number;
  /** As guests reach the relay: `10.77.0.100:8443`, an address of their own network. */
  readonly relayAddress: string;
  /** Where the relay listens, on loopback. */
  readonly relayPort: number;
  /** Full path of socat. */
  readonly socat: string;
}

export function guestArguments(
  spec: MicroVMSpec,
  files: GuestFiles,
  ways: GuestWays,
  tscKhz: number | undefined,
): string[] {
  return [
    ...["-M", "microvm,acpi=on", "-accel", "tcg,thread=multi,tb-size=32"],
    ...["-m", `${spec.memoryInMb}M`, "-smp", String(spec.vcpu), "-name", spec.id],
    ...["-kernel", files.kernel, "-initrd", files.initrd, "-append", kernelCommandLine(spec, tscKhz)],
    ...["-nodefaults", "-no-user-config", "-display", "none"],
    // A reset ends Firecracker; a power-off does not: that is told apart by the machine protocol's events.
    ...["-action", "reboot=shutdown,shutdown=pause", "-qmp", `unix:${files.qmp},server=on,wait=off`],
    ...["-chardev", `file,id=console,path=${files.console},append=on`, "-serial", "chardev:console"],
    ...(files.disk === undefined ? [] : disk(files.disk)),
    ...["-object", "rng-builtin,id=entropy", "-device", "virtio-rng-device,rng=entropy"],
    ...spec.interfaces.flatMap((each, index) => network(each, index, ways)),
  ];
}

function disk(file: string): string[] {
  const drive = `id=root,file=${file},format=raw,if=none,cache=unsafe`;
  return ["-drive", drive, "-device", "virtio-blk-device,drive=root"];
}

/** flintlockd's own words with the client's over them, except that a reset under emulation is a triple fault: 2 s quicker. */
function kernelCommandLine(
  { kernel, rootVolume, interfaces }: MicroVMSpec,
  tscKhz: number | undefined,
): string {
  const words: Record<string, string> = {
    console: "ttyS0",
    panic: "1",
    "i8042.noaux": "",
    "i8042.nomux": "",
    "i8042.nopnp": "",
    "i8042.dumbkbd": "",
    ds: "nocloud-net;s=http://169.254.169.254/latest/",
    ...(kernel?.addNetworkConfig ? { "network-config": networkConfig(interfaces) } : {}),
    ...kernel?.cmdline,
    reboot: "t",
  };
  const root = rootVolume ? ["root=/dev/vda", rootVolume.isReadOnly ? "ro" : "rw"] : [];
  const tsc = tscKhz === undefined ? [] : [`tsc_early_khz=${tscKhz}`, "tsc=reliable"];
  return [
    ...Object.entries(words).map(([name, value]) => (value === "" ? name : `${name}=${value}`)),
    ...root,
    ...tsc,
  ].join(" ");
}

/** The metadata service behind `eth0`, the relay behind every other interface, and nothing else anywhere. */
function network(
  { deviceId, guestMac, address }: NetworkInterface,
  index: number,
  ways: GuestWays,
): string[] {
  const isMetadata = deviceId === "eth0";
  const hole = isMetadata ? "169.254.169.254:80" : ways.relayAddress;
  const port = isMetadata ? ways.metadataPort : ways.relayPort;
  const own = address?.address ?? `${hole.split(":")[0]}/24`;
  const gateway = address?.gateway?.split("/")[0];
  const forward = `guestfwd=tcp:${hole}-cmd:${ways.socat} -t30 -lf/dev/null - TCP4:127.0.0.1:${port}`;
  const options = [
    ...["user", `id=net${index}`, "restrict=on", "ipv6=off", `net=${own}`],
    ...(gateway === undefined ? [] : [`host=${gateway}`]),
    forward,
  ];
  const mac = guestMac ? `,mac=${guestMac}` : "";
  return ["-netdev", options.join(","), "-device", `virtio-net-device,netdev=net${index}${mac}`];
}
