import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { run } from "../../src/base/process.ts";
import type { BootImage } from "../../src/domain/images.ts";
import { tscKhz } from "../../src/vm/qemu/accelerator.ts";
import { architectures } from "../../src/vm/qemu/arguments.ts";
import { temporaryDirectory } from "../builders/temporary-directory.ts";
import { startMetadataServer } from "../flintlockd/mmds.ts";
import { rootDisk } from "./root-disk.ts";

/** Where such machines find their relay, on a network that has nothing else. */
export const RELAY_ADDRESS = "10.77.0.100:8444";

/** A machine as it is on another host, in QEMU: one disk of its own, its first interface to the metadata, its second to the relay. */
export interface RemoteMachine extends AsyncDisposable {
  /** Boots it, on the disk that it has. Resolves when it has ended; rejects with its console when it takes too long. */
  boot(timeoutMs: number): Promise<void>;
  console(): string;
}

export interface RemoteMachineOptions {
  readonly image: BootImage;
  readonly commandLine: Readonly<Record<string, string>>;
  /** The metadata service's documents. */
  readonly documents: Readonly<Record<string, string>>;
  /** Where the relay listens, on loopback. */
  readonly relayPort: number;
  readonly memoryMib?: number;
}

export async function createRemoteMachine(options: RemoteMachineOptions): Promise<RemoteMachine> {
  const directory = await temporaryDirectory();
  const disk = join(directory.path, "root.img");
  await run("cp", ["--sparse=always", "--reflink=auto", await rootDisk(options.image), disk]);
  const metadata = await startMetadataServer(options.documents);
  const args = qemuArguments(options, disk, metadata.port, await tscKhz());
  let console = "";
  let child: ChildProcess | undefined;

  async function boot(timeoutMs: number): Promise<void> {
    const signal = AbortSignal.timeout(timeoutMs);
    child = spawn(architectures["amd64"]?.program ?? "", args, {
      cwd: directory.path,
      signal,
      killSignal: "SIGKILL",
    });
    for (const stream of [child.stdout, child.stderr])
      stream?.setEncoding("utf8").on("data", (text: string) => {
        console += text;
      });
    await new Promise<void>((resolve, reject) => {
      child?.once("exit", () => resolve());
      child?.once("error", (cause) => reject(new Error(`the machine did not end:\n${console}`, { cause })));
    });
    if (signal.aborted) throw new Error(`the machine did not end:\n${console}`);
  }

  return {
    boot,
    console: () => console,
    async [Symbol.asyncDispose]() {
      child?.kill("SIGKILL");
      await metadata[Symbol.asyncDispose]();
      await directory[Symbol.asyncDispose]();
    },
  };
}

function qemuArguments(
  { image, commandLine, relayPort, memoryMib = 512 }: RemoteMachineOptions,
  disk: string,
  metadataPort: number,
  khz: number | undefined,
): string[] {
  // As flintlockd has it, but for the kernel's way to reset: a triple fault is quicker under emulation.
  const words = {
    ...{ console: "ttyS0", reboot: "t", panic: "1", root: "/dev/vda", rw: "" },
    ...(khz === undefined ? {} : { tsc_early_khz: String(khz), tsc: "reliable" }),
    ...commandLine,
  };
  const append = Object.entries(words).map(([name, value]) => (value === "" ? name : `${name}=${value}`));
  const to = (port: number) => `cmd:socat -t86400 -lf/dev/null - TCP4:127.0.0.1:${port}`;
  const only = "restrict=on,ipv6=off";
  return [
    ...["-M", "microvm,acpi=on", "-accel", "tcg,thread=multi,tb-size=32", "-m", `${memoryMib}M`],
    ...["-kernel", image.kernel, "-initrd", image.initramfs, "-append", append.join(" ")],
    ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"],
    ...["-drive", `id=root,file=${disk},format=raw,if=none,cache=unsafe`],
    ...["-device", "virtio-blk-device,drive=root"],
    ...["-object", "rng-builtin,id=entropy", "-device", "virtio-rng-device,rng=entropy"],
    ...[
      "-netdev",
      `user,id=metadata,${only},net=169.254.0.0/16,guestfwd=tcp:169.254.169.254:80-${to(metadataPort)}`,
    ],
    ...["-device", "virtio-net-device,netdev=metadata,mac=aa:ff:00:00:00:01"],
    ...["-netdev", `user,id=host,${only},net=10.77.0.0/24,guestfwd=tcp:${RELAY_ADDRESS}-${to(relayPort)}`],
    ...["-device", "virtio-net-device,netdev=host"],
  ];
}
