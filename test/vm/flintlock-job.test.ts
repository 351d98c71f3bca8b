import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { freePort } from "../../src/demo/workspace.ts";
import { createImageStore } from "../../src/image/store.ts";
import { createQemuGuests, type QemuGuests } from "../flintlockd/qemu-guest.ts";
import { type Flintlockd, startFlintlockd } from "../flintlockd/stand-in.ts";
import type { Daemon } from "../harness/daemon.ts";
import { eventually } from "../harness/eventually.ts";
import { testImageDirectory } from "../harness/image.ts";
import { createInstallation, type Installation } from "../harness/installation.ts";
import { type CertificateAuthority, makeCertificateAuthority } from "../servers/certificates.ts";
import { publishedImages } from "./published-images.ts";
import { rootDisk } from "./root-disk.ts";

/** Emulated, on a busy computer. */
const BOOT_AND_RUN_MS = 170_000;
const TOKEN = "a-token-of-the-host";
/** Where guests of that host find the relay. */
const RELAY_ADDRESS = "10.77.0.100:8444";

describe("a job on a Flintlock host", () => {
  let directory: string;
  let authority: CertificateAuthority;
  let flintlockd: Flintlockd;
  let guests: QemuGuests;
  let installation: Installation;
  let daemon: Daemon;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "fr-"));
    authority = await makeCertificateAuthority();
    const relayPort = await freePort();
    const images = join(directory, "images");
    const published = await publishedImages(images);
    const image = await createImageStore({ directory: testImageDirectory() }).resolve("base");
    await mkdir(join(directory, "vm"));
    guests = createQemuGuests({
      directory: join(directory, "vm"),
      kernel: image.kernel,
      initrd: image.initramfs,
      root: await rootDisk(image),
      relayAddress: RELAY_ADDRESS,
      relayPort,
    });
    flintlockd = await startFlintlockd({
      security: await authority.issue("metal-1.example.org"),
      token: TOKEN,
      scale: 0.05,
      localImages: Object.values(published),
      onBoot: guests.onBoot,
    });
    installation = await createInstallation({
      settings: {
        images: { directory: images },
        relay: { listen: [`127.0.0.1:${relayPort}`], advertise: RELAY_ADDRESS },
        vm: { flintlock: { hosts: { "metal-1": await hostSettings() } } },
      },
      pool: { driver: "flintlock", size: { cpus: 1, memory: "1GiB" }, hostLabels: { zone: "a" } },
    });
    daemon = await installation.start();
  });

  async function hostSettings() {
    const [ca, token] = [join(directory, "ca.pem"), join(directory, "host-token")];
    await writeFile(ca, authority.ca);
    await writeFile(token, TOKEN, { mode: 0o600 });
    return {
      address: flintlockd.address,
      tls: { caFile: ca, serverName: "metal-1.example.org" },
      tokenFile: token,
      ...{ cpus: 2, memory: "4GiB", labels: { zone: "a" } },
      network: { addresses: "10.77.0.10-10.77.0.20/24" },
    };
  }

  afterAll(async () => {
    await daemon?.stop();
    await installation?.close();
    await flintlockd?.[Symbol.asyncDispose]();
    await authority?.[Symbol.asyncDispose]();
    await rm(directory, { recursive: true, force: true });
  });

  test("is claimed, placed, made by gRPC, run by the relay alone, and leaves nothing there", async () => {
    const { gitlab, runnerToken } = installation;
    const project = await gitlab.projects.add({
      path: "group/fleet",
      repository: { files: { "word.txt": "from git\n" } },
    });
    const job = await gitlab.addJob(project, {
      name: "build",
      timeoutSeconds: 600,
      variables: { OF_THE_JOB: "a-value-of-this-job-alone" },
      script: [
        "cat word.txt",
        "mkdir out && echo made > out/file",
        'echo "on $(hostname) with $(nproc) cpu"',
      ],
      artifacts: { paths: ["out/"], exclude: [], untracked: false, when: "on_success" },
    });

    await gitlab.waitForJob(job, "success", BOOT_AND_RUN_MS).catch(async (cause: unknown) => {
      const consoles = await Promise.all(flintlockd.machines().map(({ uid }) => guests.console(uid)));
      throw new Error(`${daemon.output()}\n${consoles.join("\n")}`, { cause });
    });
    const [machine] = await daemon.machines();
    await eventually("the host has no machine any more", () => flintlockd.machines().length === 0);

    expect(job.trace.text()).toContain("from git");
    expect(job.trace.text()).toMatch(/on fr-[a-z2-7]{8} with 1 cpu/);
    expect(job.artifacts).toHaveLength(1);
    expect(job.traceCheck?.matches).toBe(true);
    expect(machine).toMatchObject({ driver: "flintlock", host: "metal-1" });
    expect(flintlockd.wire.count("create")).toBe(1);
    expect(flintlockd.wire.count("delete")).toBe(1);
    expect(flintlockd.crashes).toEqual([]);
    expect(flintlockd.loopSteps).toBe(0);
    for (const secret of [runnerToken, job.token, "a-value-of-this-job-alone"])
      expect(flintlockd.wire.find(secret)).toEqual([]);
    expect(gitlab.violations).toEqual([]);
  });
});
