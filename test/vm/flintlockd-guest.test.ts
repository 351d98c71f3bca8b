import { writeFile } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { run } from "../../src/base/process.ts";
import { temporaryDirectory } from "../builders/temporary-directory.ts";
import { aSpec, bareClient } from "../flintlockd/client.ts";
import { createQemuGuests } from "../flintlockd/qemu-guest.ts";
import { startFlintlockd } from "../flintlockd/stand-in.ts";
import { eventually } from "../harness/eventually.ts";
import { tinyImage } from "./tiny-image.ts";

/** Tells the relay's address what it found on its networks and its disk, and does what is answered. */
const init = `#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev; $b mount -t proc proc /proc
for m in $($b cat /modules); do $b insmod /lib/$m; done
$b ip link set eth0 up; $b ip addr add 169.254.0.1/16 dev eth0
$b ip link set eth1 up; $b ip addr add 10.77.0.2/24 dev eth1
$b mkdir /disk; $b mount -t ext4 /dev/vda /disk
echo boot >>/disk/boots; $b sync
get() { printf 'GET %s HTTP/1.0\\r\\n\\r\\n' "$1" | $b nc 169.254.169.254 80; echo; }
elsewhere=$($b nc -w 2 10.77.0.1 22 </dev/null && echo open || echo shut)
command=$({
  $b ip link show eth0; get /latest/; get /latest/firerunner; get /latest/nothing
  echo "boots $($b grep -c boot /disk/boots), elsewhere $elsewhere, $($b cat /proc/cmdline)"; echo end
} | $b nc 10.77.0.100 8443)
echo "guest does: $command"
eval "$command"
`;

describe("a machine of the stand-in in QEMU", () => {
  test("finds its metadata and the relay, and is booted again on its disk until it is deleted", async () => {
    const image = await tinyImage(init);
    await using directory = await temporaryDirectory();
    const root = join(directory.path, "root.img");
    await writeFile(root, Buffer.alloc(8 * 1024 ** 2));
    await run("mkfs.ext4", ["-q", root]);
    const reports: { text: string; socket: Socket }[] = [];
    const relay = createServer({ allowHalfOpen: true }, (socket) => {
      const report = { text: "", socket };
      socket.on("error", () => {});
      socket.on("data", (bytes) => {
        report.text += String(bytes);
        if (report.text.endsWith("end\n")) reports.push(report);
      });
    });
    await new Promise<void>((resolve) => relay.listen(0, "127.0.0.1", resolve));
    const bound = relay.address();
    const relayPort = typeof bound === "object" && bound ? bound.port : 0;
    const guests = createQemuGuests({
      directory: directory.path,
      kernel: image.kernel,
      initrd: image.initramfs,
      root,
      relayAddress: "10.77.0.100:8443",
      relayPort,
    });
    await using host = await startFlintlockd({ onBoot: guests.onBoot });
    const report = async (count: number) =>
      (await eventually(`boot ${count} reports`, () => reports[count - 1], 120_000)) as (typeof reports)[0];

    const metadata = { firerunner: Buffer.from("relay=here\nsecret=only mine\n").toString("base64") };
    const address = { address: "10.77.0.2/24", gateway: "10.77.0.1/24" };
    const { microvm } = await bareClient(host.address).createMicroVM({
      microvm: aSpec({ metadata, interfaces: [{ deviceId: "eth1", type: 1, address }] }),
    });
    const uid = microvm?.spec?.uid ?? "";
    const first = await report(1);
    expect(first.text).toContain("aa:ff:00:00:00:01");
    expect(first.text).toMatch(/200 OK[\s\S]*text\/plain[\s\S]*\n\r?\nfirerunner\nmeta-data\n/);
    expect(first.text).toMatch(/\n\r?\nrelay=here\nsecret=only mine\n/);
    expect(first.text).toContain("404 Not Found");
    expect(first.text).toContain("boots 1, elsewhere shut");
    expect(first.text).toContain("quiet");

    first.socket.end("/bin/busybox reboot -f\n");
    await host.until("the machine's process has ended", ([machine]) => machine?.alive === false);
    expect(host.machine("vm1").state).toBe("CREATED");
    host.resync();
    const second = await report(2);
    expect(second.text).toContain("boots 2");

    second.socket.end("/bin/busybox poweroff -f\n");
    const heard = "guest does: /bin/busybox poweroff";
    await eventually("it powers off", async () => (await guests.console(uid)).includes(heard));
    // As Firecracker: halted, and the process stays.
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    expect(host.machine("vm1")).toMatchObject({ alive: true, boots: 2 });

    await bareClient(host.address).deleteMicroVM({ uid });
    await host.until("it is gone", (machines) => machines.length === 0);
    relay.close();
  });
});
