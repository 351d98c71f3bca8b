import { systemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import type { VmDriverHarness } from "../../src/vm/driver.contract.ts";
import { FlintlockConfig } from "../../src/vm/flintlock/config.ts";
import { createFlintlockDriver } from "../../src/vm/flintlock/driver.ts";
import { aFlintlockHost } from "../builders/flintlock-host.ts";
import { aSpec, bareClient } from "./client.ts";
import { aLink } from "./harness.ts";

/** A flintlockd that somebody started, in plaintext and without a token, and the way to a shell on its host. */
export interface RealDaemon {
  readonly address: string;
  /** Runs a command in a shell on the host, as root, and gives what it prints. */
  readonly onHost: (command: string) => Promise<string>;
  readonly kernel: string;
  readonly root: string;
}

/** The contract's view of a real host. Its machines are of a namespace of their own, and all of them are removed at the end. */
export function createRealHarness({ address, onHost, kernel, root }: RealDaemon): VmDriverHarness {
  const namespace = `fr-contract-${process.pid}`;
  const client = bareClient(address);
  const { hosts: _, ...settings } = FlintlockConfig.parse({});
  const listed = async (name: string) => (await client.listMicroVMs({ namespace, name })).microvm;

  async function uidOf(id: string): Promise<string> {
    const [found, ...more] = await listed(id);
    if (!found?.spec?.uid || more.length > 0) throw new Error(`not one machine ${id}`);
    return found.spec.uid;
  }

  /** Its process alone: the daemon does not notice. */
  async function kill(id: string): Promise<void> {
    await onHost(
      `kill -9 $(cat /var/lib/flintlock/vm/${namespace}/${id}/${await uidOf(id)}/firecracker.pid)`,
    );
  }

  const open = () =>
    createFlintlockDriver({
      host: aFlintlockHost({ addresses: [address] }),
      namespace,
      settings,
      clock: systemClock,
      log: silentLog,
      random: Math.random,
    });

  return {
    image: {
      digest: "sha256:0",
      architecture: "amd64",
      kernel: "",
      initramfs: "",
      layers: [],
      published: { kernel, root },
    },
    size: { cpus: 1, memoryMib: 1_024, diskMib: 64 },
    link: aLink,
    open,
    guestUp: async () => {},
    guestPrints: async () => {},
    guestEnds: kill,
    kill,
    async lose(id) {
      const uid = await uidOf(id);
      await kill(id);
      await onHost(`ctr -n flintlock leases rm --sync flintlock/${namespace}/${id}/${uid}`);
    },
    async leaveHalfMade(id) {
      const rootVolume = { id: "root", source: { containerSource: root } };
      const files = { kernel: { image: kernel, filename: "boot/vmlinux" }, rootVolume };
      const initrd = { image: kernel, filename: "boot/initrd.img" };
      await client.createMicroVM({ microvm: aSpec({ id, namespace, initrd, ...files }) });
    },
    async runningCount(id) {
      const files = `/var/lib/flintlock/vm/${namespace}/${id}/*/firecracker.pid`;
      const command = `for f in ${files}; do p=$(cat $f 2>/dev/null) && [ -d /proc/$p ] && echo up; done; true`;
      return (await onHost(command)).split("up").length - 1;
    },
    leftovers: async (id) => (await listed(id)).map(({ spec }) => spec?.uid ?? ""),
    async dispose() {
      const last = open();
      for (const { id } of await last.list(AbortSignal.timeout(60_000)))
        await last.destroy(id, AbortSignal.timeout(300_000));
      await last.close();
    },
  };
}
