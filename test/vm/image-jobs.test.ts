import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { MIB_BYTES } from "../../src/base/units.ts";
import { busyboxLayer } from "../builders/busybox.ts";
import { imageOf, type TestImage, tarOf } from "../builders/layer.ts";
import type { Daemon } from "../harness/daemon.ts";
import { eventually } from "../harness/eventually.ts";
import { createInstallation, type Installation } from "../harness/installation.ts";
import { type ImageRegistry, startImageRegistry } from "../servers/image-registry.ts";
import { buildTestImage } from "./build-image.ts";

/** Emulated, a machine that runs containers needs a minute or two for a job. */
const LIMIT_MS = 500_000;
const isSlowRun = process.env["FIRERUNNER_SLOW_MACHINES"] !== undefined;
const APPLETS = ["cat", "httpd", "id", "mkdir", "sh", "sleep", "wget"];

/** Busybox alone: no bash and no git. The other layer is large enough for its disk to take a moment. */
async function busybox(): Promise<TestImage> {
  const large = { path: "large", content: randomBytes(48 * MIB_BYTES) };
  return imageOf([tarOf([large]), await busyboxLayer(APPLETS)]);
}

let registry: ImageRegistry;
let installation: Installation;
let daemon: Daemon;
let image: string;
/** Digests of its layers. */
let layers: string[];

beforeAll(async () => {
  await buildTestImage("containers");
  registry = await startImageRegistry();
  const content = await busybox();
  layers = content.layers.map(({ digest }) => digest);
  registry.put("tools/busybox", "1", content);
  image = `${registry.host}/tools/busybox:1`;
  installation = await createInstallation({
    pool: { image: "containers", size: { cpus: 2, memory: "1GiB", disk: "2GiB" } },
    settings: { containers: { registries: { [registry.host]: { plaintext: true } } } },
  });
  daemon = await installation.start();
}, LIMIT_MS);

beforeEach(() => {
  registry.fault = undefined;
});

afterAll(async () => {
  await daemon?.stop();
  await installation?.expectNothingLeft();
  await installation?.close();
  await registry?.[Symbol.asyncDispose]();
});

/** Requests of this kind get no answer. Returns when the first has come. */
function hold(kind: "manifests" | "layers"): Promise<void> {
  return new Promise((resolve) => {
    registry.fault = ({ path }, response) => {
      const isLayer = layers.some((digest) => path.endsWith(digest));
      if (kind === "layers" ? !isLayer : !path.includes("/manifests/")) return undefined;
      once(response, "close").catch(() => {});
      resolve();
      return "answered";
    };
  });
}

async function killAndStart(): Promise<void> {
  await daemon.kill9();
  registry.fault = undefined;
  daemon = await installation.start();
}

describe("a job that names an image", { timeout: LIMIT_MS }, () => {
  test("is cancelled while its image is fetched, and has no machine", async () => {
    const { gitlab } = installation;
    const project = await gitlab.projects.add({ path: "group/cancelled" });
    const asked = hold("layers");
    const job = await gitlab.addJob(project, { image: { name: image }, script: ["true"] });
    await asked;
    const { unfinished } = await daemon.get<{ unfinished: { id: number; fetching: boolean }[] }>(
      "/v1/status",
    );
    await eventually("its log says that", () => /busybox:1: fetching \d+ MiB/.test(job.trace.text()));
    gitlab.jobs.cancel(job);

    await gitlab.waitForJob(job, "canceled", 60_000);
    await installation.expectNothingLeft();

    expect(unfinished).toMatchObject([{ id: job.id, fetching: true }]);
    const seen = (await daemon.jobs()).find(({ id }) => id === job.id);
    expect(seen).toMatchObject({ attempt: 1 });
  });

  test.each([
    ["that is nowhere", () => `${registry.host}/tools/nothing:1`, /there is no image .*tools\/nothing:1/],
    [
      "on this computer that nobody named",
      () => "127.0.0.1:1/tools/busybox",
      /127\.0\.0\.1.*containers\.registries/s,
    ],
    ["without a name", () => "$NOTHING", /nothing is left of it/],
  ])("fails with one clear line when it is one %s", async (_what, name, line) => {
    const { gitlab } = installation;
    const project = await gitlab.projects.add();
    const job = await gitlab.addJob(project, { image: { name: name() }, script: ["true"] });

    await gitlab.waitForJob(job, "failed", 60_000);

    expect(job.trace.text()).toMatch(line);
    expect(job.failureReason).toBe("script_failure");
    expect(installation.machineProcesses()).toEqual([]);
  });

  test("runs in it, with a service by its alias and no way out, though FireRunner is killed at each step before", async () => {
    const { gitlab } = installation;
    const repository = { files: { "word.txt": "from git\n" } };
    const project = await gitlab.projects.add({ path: "group/images", repository });
    const served = "mkdir /served; echo served by $NAME >/served/file; exec httpd -f -p 8080 -h /served";
    const resolving = hold("manifests");
    const job = await gitlab.addJob(project, {
      timeoutSeconds: 1_200,
      variables: { REGISTRY: registry.host },
      image: { name: "$REGISTRY/tools/busybox:1" },
      services: [
        {
          ...{ name: "$REGISTRY/tools/busybox:1", alias: "web", variables: { NAME: "a service" } },
          command: ["sh", "-c", served],
        },
      ],
      script: [
        "id",
        "cat word.txt",
        "until wget -q -O result http://web:8080/file; do sleep 1; done",
        "cat result",
      ],
      artifacts: { paths: ["result"], exclude: [], untracked: false, when: "on_success" },
    });
    await resolving;
    await killAndStart();
    const fetching = hold("layers");
    await fetching;
    await killAndStart();
    await eventually("its disk is being made", async () =>
      (await filesBelow(join(installation.state, "containers"))).some((path) => path.endsWith(".sqfs")),
    );
    await killAndStart();
    await eventually("its machine runs", () => installation.machineProcesses().length > 0);
    await killAndStart();
    await gitlab.waitForJob(job, "success", LIMIT_MS);

    const log = job.trace.text();
    expect(log).toContain("from git");
    expect(log).toContain("served by a service");
    expect(log.match(/image .*tools\/busybox:1 is sha256:[0-9a-f]{12}/g)).toHaveLength(1);
    expect(log).not.toContain("Pulling");
    expect(job.artifacts).toHaveLength(1);
    expect(job.traceCheck?.matches).toBe(true);
    const seen = (await daemon.jobs()).find(({ id }) => id === job.id);
    expect(seen).toMatchObject({ attempt: 1 });
    // The engine and its containers count for what the job used.
    expect(seen?.peakMemoryMib).toBeGreaterThan(100);
    // Its images lie on disks of their own, and it writes next to nothing.
    expect(seen?.peakDiskMib).toBeGreaterThanOrEqual(0);
    expect(gitlab.violations.filter(({ rule }) => rule !== "trace-range")).toEqual([]);
  });
});

// Each is another minute or two: `npm run test:slow-machines`.
describe.runIf(isSlowRun)("a script in a container", { timeout: LIMIT_MS }, () => {
  const long = {
    script: ["echo started", "sleep 600"],
    variables: { GIT_STRATEGY: "none" },
    timeoutSeconds: 1_200,
  };

  test("is cancelled, and its machine goes", async () => {
    const { gitlab } = installation;
    const project = await gitlab.projects.add();
    const job = await gitlab.addJob(project, { ...long, image: { name: image } });
    await gitlab.waitForJob(job, ({ trace }) => trace.text().includes("started\n"), LIMIT_MS);
    gitlab.jobs.cancel(job);

    await gitlab.waitForJob(job, "canceled", 60_000);
    await installation.expectNothingLeft();
  });

  test("ends truly when its machine is killed", async () => {
    const { gitlab } = installation;
    const project = await gitlab.projects.add();
    const job = await gitlab.addJob(project, { ...long, image: { name: image } });
    await gitlab.waitForJob(job, ({ trace }) => trace.text().includes("started\n"), LIMIT_MS);
    for (const pid of installation.machineProcesses()) process.kill(pid, "SIGKILL");

    await gitlab.waitForJob(job, "failed", 60_000);
    await installation.expectNothingLeft();

    expect(job.failureReason).toBe("runner_system_failure");
    expect(job.trace.text()).toContain("from the cache");
  });
});

async function filesBelow(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true }).catch(() => []);
  return entries;
}
