/** A root of other people: Debian with systemd and cloud-init, which know nothing of FireRunner. */
import { chmod, copyFile, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { guestFile } from "../../src/base/guest-files.ts";
import type { BootImage } from "../../src/domain/images.ts";
import { makeSquashfsFromDirectory } from "../../src/image/squashfs.ts";
import { StaticAddressSchema } from "../../src/vm/flintlock/gen/types_pb.js";
import { guestCommandLine, renderMetadata } from "../../src/vm/flintlock/request.ts";
import { networkConfig } from "../flintlockd/network-config.ts";
import { hostSystem } from "../metal/disks.ts";
import { prepareLife } from "./remote-life.ts";

/** systemd and cloud-init take half a minute under emulation, and several on a busy computer. */
const LIFE_MS = 420_000;
const packages = ["systemd-sysv", "systemd-resolved", "udev", "dbus", "cloud-init", "netplan.io", "procps"];
const network = { address: "10.77.0.12/24", gateway: "10.77.0.2", nameservers: ["10.77.0.3"] };

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "fr-cloud-init-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

// Making the root takes a minute and downloads what a small server has: `npm run test:cloud-init` does it.
describe.runIf(process.env["FIRERUNNER_CLOUD_INIT"])(
  "an image of other people",
  { timeout: 2 * LIFE_MS },
  () => {
    test("is made one of ours by cloud-init, runs its job and ends; started again, it says so", async () => {
      await using life = await prepareLife({
        image: await foreignImage(),
        commandLine: (id) => ({ ...guestCommandLine(id), ...asFlintlockAdds() }),
        documents: (machineId, link) => renderMetadata({ machineId, link, network, cloudInit: true }),
        definition: {
          script: [
            "cat word.txt",
            "hostname",
            "ps -p 1 -o comm=",
            "stat -c '%a %U' /run/firerunner/preamble",
          ],
        },
      });
      const { bench, machine, remote } = life;
      await remote.boot(LIFE_MS);
      const first = bench.relay.endOf(machine.id);
      await remote.boot(LIFE_MS);

      expect(machine.job.status).toBe("success");
      expect(machine.job.trace.text()).toMatch(
        new RegExp(`from git[^]*${machine.id}[^]*systemd[^]*600 root`),
      );
      expect([first, bench.relay.endOf(machine.id)]).toEqual(["orderly", "restarted"]);
      expect(remote.console()).not.toContain(machine.link?.secret.reveal());
    });
  },
);

/** A whole Debian, with the stand-in for gitlab-runner, and with the kernel of an image of ours. */
async function foreignImage(): Promise<BootImage> {
  const image = await hostSystem("test-cloud-init", packages);
  const programs = join(directory, "tree/usr/local/bin");
  await mkdir(programs, { recursive: true });
  await copyFile(guestFile("stand-in-runner"), join(programs, "gitlab-runner"));
  await chmod(join(programs, "gitlab-runner"), 0o755);
  const upper = join(directory, "upper.squashfs");
  await makeSquashfsFromDirectory(join(directory, "tree"), upper, 0, undefined);
  return { ...image, digest: `${image.digest}-foreign`, layers: [image.layers[0] ?? "", upper] };
}

/** What flintlockd puts on the command line always, and with `add_network_config`. */
function asFlintlockAdds(): Record<string, string> {
  const { address, gateway, nameservers } = network;
  const metadata = { address: "169.254.0.1/16", nameservers: [] };
  const interfaces = [
    { deviceId: "eth0", guestMac: "AA:FF:00:00:00:01", address: create(StaticAddressSchema, metadata) },
    { deviceId: "eth1", address: create(StaticAddressSchema, { address, gateway, nameservers }) },
  ];
  return { ds: "nocloud-net;s=http://169.254.169.254/latest/", "network-config": networkConfig(interfaces) };
}
