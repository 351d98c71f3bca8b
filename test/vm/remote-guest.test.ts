import { readFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import { directRoutes } from "../../src/base/proxy/routes.ts";
import { MIB_BYTES } from "../../src/base/units.ts";
import { openJobImages } from "../../src/containers/job-images.ts";
import { createImageStore } from "../../src/image/store.ts";
import { type GuestNetwork, guestCommandLine, renderMetadata } from "../../src/vm/flintlock/request.ts";
import { imageOf, tarOf } from "../builders/layer.ts";
import { temporaryDirectory } from "../builders/temporary-directory.ts";
import { testImageDirectory } from "../harness/image.ts";
import { startImageRegistry } from "../servers/image-registry.ts";
import { buildTestImage } from "./build-image.ts";
import { type LifeOptions, prepareLife } from "./remote-life.ts";

/** Emulated, on a busy computer. */
const LIFE_MS = 150_000;
/** With an engine that pulls and unpacks. */
const CONTAINERS_MS = 400_000;
const isSlowRun = process.env["FIRERUNNER_SLOW_MACHINES"] !== undefined;

/** A machine with an image of ours. */
async function prepare(network: GuestNetwork, definition: LifeOptions["definition"]) {
  return await prepareLife({
    image: await createImageStore({ directory: testImageDirectory() }).resolve("base"),
    commandLine: guestCommandLine,
    documents: (machineId, link) => renderMetadata({ machineId, link, network, cloudInit: false }),
    definition,
  });
}

const withAddress = { address: "10.77.0.12/24", gateway: "10.77.0.2", nameservers: ["10.77.0.3"] };
const byDhcp = { address: undefined, gateway: undefined, nameservers: [] };

describe("a machine on another host", () => {
  test("runs its job by the relay alone, says goodbye and ends; started again, it says so and runs nothing", async () => {
    await using life = await prepare(withAddress, {
      script: [
        "cat word.txt",
        "mkdir out && head -c 3000000 /dev/urandom > out/file",
        "hostname",
        "ls -l /run/firerunner",
      ],
      artifacts: { paths: ["out/"], exclude: [], untracked: false, when: "on_success" },
    });
    const { bench, machine, remote } = life;
    const { job, id } = machine;
    await remote.boot(LIFE_MS);
    const first = { end: bench.relay.endOf(id), console: remote.console() };
    await remote.boot(LIFE_MS);

    expect(first.console).not.toMatch(/firerunner:/);
    expect(job.trace.text()).toContain("from git");
    expect(job.trace.text()).toContain(id);
    expect([job.status, job.artifacts.length, job.traceCheck?.matches]).toEqual(["success", 1, true]);
    expect(await bench.store.job(job.id)).toMatchObject({ state: "finished", result: "success" });
    expect(first.end).toBe("orderly");
    expect(bench.relay.endOf(id)).toBe("restarted");
    expect(remote.console()).toContain("firerunner: this disk was booted before");
    expect(remote.console()).not.toContain(machine.link?.secret.reveal());
  });

  test("asks for its address where it was given none, and keeps what proves it for root only", async () => {
    await using life = await prepare(byDhcp, {
      variables: { GIT_STRATEGY: "none" },
      script: [
        "ip -4 addr show eth1 2>/dev/null || busybox ip -4 addr show eth1",
        "stat -c '%a %U' /run/firerunner/preamble",
      ],
    });
    const { bench, machine, remote } = life;
    await remote.boot(LIFE_MS);

    expect(machine.job.status).toBe("success");
    expect(machine.job.trace.text()).toMatch(/inet 10\.77\.0\.\d+\/24/);
    expect(machine.job.trace.text()).toMatch(/600 root/);
    expect(bench.relay.endOf(machine.id)).toBe("orderly");
  });
});

/** Busybox alone: no bash and no git. */
async function busybox() {
  const links = ["cat", "id", "ls", "sh", "sleep", "wget", "httpd", "mkdir"].map((name) => ({
    ...{ path: `bin/${name}`, type: "2", target: "busybox" },
  }));
  const program = { path: "bin/busybox", mode: 0o755, content: await readFile("/bin/busybox") };
  return imageOf([tarOf([{ path: "bin/", type: "5", mode: 0o755 }, program, ...links])]);
}

// Some minutes: `npm run test:slow-machines`.
describe.runIf(isSlowRun)("a machine on another host whose job names an image", () => {
  test("pulls it through the relay with egress: none, and runs in it with a service by its alias", async () => {
    await buildTestImage("containers");
    await using directory = await temporaryDirectory();
    await using registry = await startImageRegistry();
    registry.put("tools/busybox", "1", await busybox());
    registry.put("tools/secret", "1", await busybox());
    const images = await openJobImages({
      ...{ directory: directory.path, sizeBytes: 1_000 * MIB_BYTES, minFreeBytes: 0 },
      registries: new Map([[registry.host, { plaintext: true }]]),
      ...{ proxies: directRoutes, clock: systemClock },
    });
    const name = `${registry.host}/tools/busybox:1`;
    const other = `/v2/${registry.host.replace(":", "__")}/tools/secret/manifests/1`;
    const registries = [registry.host];
    const served = "mkdir /served; echo served >/served/file; exec httpd -f -p 8080 -h /served";
    await using life = await prepareLife({
      image: await createImageStore({ directory: testImageDirectory() }).resolve("containers"),
      commandLine: guestCommandLine,
      documents: (machineId, link) =>
        renderMetadata({ machineId, link, network: withAddress, cloudInit: false }),
      definition: {
        image: { name },
        services: [{ name, alias: "web", command: ["sh", "-c", served] }],
        script: [
          "id",
          "cat word.txt",
          "until wget -q -O result http://web:8080/file; do sleep 1; done",
          "cat result",
          `wget -O other http://10.0.2.100${other} || echo the other one is refused`,
        ],
        artifacts: { paths: ["result"], exclude: [], untracked: false, when: "on_success" },
      },
      boot: {
        executor: "docker",
        containers: { imageDisks: 0, registries, defaultImage: name, privileged: true },
      },
      pool: { egress: "none" },
      relay: {
        mirror: images.mirror,
        inContainers: async () => true,
        pulledImages: async () => [{ name, isTrusted: false }],
      },
      memoryMib: 1_024,
    });
    const { bench, machine, remote } = life;
    await remote.boot(CONTAINERS_MS);
    await images.close();

    const log = machine.job.trace.text();
    expect(remote.console()).not.toMatch(/firerunner:/);
    expect([machine.job.status, log]).toEqual(["success", expect.stringContaining("from git")]);
    expect(log).toContain("served\n");
    expect(log).toContain("the other one is refused");
    expect(machine.job.artifacts).toHaveLength(1);
    expect(bench.relay.endOf(machine.id)).toBe("orderly");
  }, 500_000);
});
