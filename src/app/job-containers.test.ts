import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { anImage } from "../../test/builders/image.ts";
import { aClaim } from "../../test/builders/job.ts";
import { aPayload } from "../../test/builders/payload.ts";
import { aPool, usualContainers } from "../../test/builders/pool.ts";
import { aSize } from "../../test/builders/size.ts";
import { aStore, type TestStore } from "../../test/builders/store.ts";
import { createManualClock, type ManualClock } from "../base/manual-clock.ts";
import { MIB_BYTES } from "../base/units.ts";
import { ContainerError } from "../containers/errors.ts";
import type { JobImages as ImageCache } from "../containers/job-images.ts";
import type { Pool } from "../domain/pool.ts";
import { RegistryError } from "../registry/errors.ts";
import type { ReadyImage } from "../scheduler/ports.ts";
import { createJobContainers, type JobContainers, warnOfIgnoredImages } from "./job-containers.ts";

const machineId = "fr-aaaaaaaa";
const able: ReadyImage = { ...anImage, containerRunnerInfo: { name: "gitlab-runner" } };

let clock: ManualClock;
let testStore: TestStore;
let pool: Pool | undefined;
let image: ReadyImage;
let pins: Map<string, readonly string[]>;
let opened: number;
let asked: Parameters<ImageCache["prepare"]>[0][number][];
let answer: (name: string, policy: string) => Promise<{ isFromCache?: boolean; fetchedBytes?: number }>;
let containers: JobContainers;
/** What the job's log is to say while images come. */
let told: string[];
/** How much of an image there is, and after how long. */
let problem: string | undefined;
let progress: readonly (readonly [doneMib: number, afterMs: number])[];

/** Keeps pins, and gives what the test says. */
function aCache() {
  const keeper = {
    pin: (id: string, keys: readonly string[]) => void pins.set(id, keys),
    unpin: (id: string) => void pins.delete(id),
    pinnedMachines: () => [...pins.keys()],
  };
  return {
    keeper,
    close: async () => {},
    async look([want]: Parameters<ImageCache["look"]>[0]) {
      if (want === undefined) return [];
      asked.push(want);
      await answer(want.name, want.policy);
      return [{ reference: want.name, digest: `sha256:${"1".repeat(64)}` }];
    },
    prepare: async (...[[want], { signal, onProgress }]: Parameters<ImageCache["prepare"]>) => {
      if (want === undefined) return [];
      asked.push(want);
      if (problem !== undefined)
        for (let times = 0; times < 3; times++)
          onProgress?.({ reference: want.name, phase: "wait", problem });
      for (const [doneMib, afterMs] of progress) {
        await clock.advance(afterMs);
        const bytes = { done: doneMib * MIB_BYTES, total: 100 * MIB_BYTES };
        onProgress?.({ reference: want.name, phase: "fetch", bytes });
      }
      const aborted = new Promise<never>((_, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason));
      });
      const given = await Promise.race([answer(want.name, want.policy), aborted]);
      const usual = { isFromCache: true, fetchedBytes: 0, tookMs: 3_000, sizeBytes: 1 };
      const digest = `sha256:${"1".repeat(64)}`;
      return [
        { reference: want.name, digest, key: want.name, disk: `/disks/${want.name}`, ...usual, ...given },
      ];
    },
  } as unknown as ImageCache;
}

function create(): JobContainers {
  return createJobContainers({
    store: testStore.store,
    pools: () => new Map(pool ? [[pool.name, pool]] : []),
    images: { resolve: async () => image },
    async openCache() {
      opened++;
      return aCache();
    },
    clock,
  });
}

async function aMachineFor(fields: Record<string, unknown>) {
  const { store } = testStore;
  await store.claim(aClaim({ jobId: 4711, payload: JSON.stringify(aPayload(fields)) }));
  const rest = { pool: "small", driver: "fake", host: "local", image: able.digest, size: aSize() };
  await store.startJob(4711, { id: machineId, ...rest });
  const machine = await store.machine(machineId);
  if (machine === undefined) throw new Error("there is no machine");
  return machine;
}

const prepare = (signal: AbortSignal = new AbortController().signal) =>
  containers.prepare({ jobId: 4711, machineId, pool: "small", image: able.digest }, signal, (line) =>
    told.push(`${line.subject} ${line.text}`),
  );

beforeEach(async () => {
  clock = createManualClock();
  testStore = await aStore({ clock });
  pool = aPool();
  image = able;
  pins = new Map();
  opened = 0;
  asked = [];
  told = [];
  progress = [];
  problem = undefined;
  answer = async () => ({});
  containers = create();
});

afterEach(async () => {
  await containers.close();
  await testStore[Symbol.asyncDispose]();
});

const node = { image: { name: "node:24" }, services: [{ name: "redis" }] };

test("a job that names images has them as disks, held until its machine is gone", async () => {
  const machine = await aMachineFor(node);
  answer = async (name) => (name.includes("redis") ? { isFromCache: false, fetchedBytes: 2_000_000 } : {});

  const prepared = await prepare();
  const boot = await containers.bootOf(machine);
  const held = pins.get(machineId);
  await testStore.store.stopMachine(machineId, "done");
  await testStore.store.markGone(machineId);
  await Promise.resolve();

  const names = ["docker.io/library/node:24", "docker.io/library/redis:latest"];
  expect(prepared).toEqual({
    disks: names.map((name) => `/disks/${name}`),
    lines: [
      { level: "info", subject: `image ${names[0]}`, text: "is sha256:111111111111, from the cache" },
      {
        level: "info",
        subject: `image ${names[1]}`,
        text: expect.stringMatching(/^is sha256:1{12}, fetched in 3.0 s \(2 MiB\)$/),
      },
    ],
  });
  expect(boot).toEqual({ imageDisks: 2, defaultImage: "debian:13-slim", privileged: true, socket: false });
  expect(held).toEqual(names);
  expect(pins.size).toBe(0);
});

test("the job's log says how much is fetched, and every half minute how far it has come", async () => {
  await aMachineFor({ image: { name: "node:24" } });
  problem = "asking r: r does not answer";
  progress = [0, 1, 40, 41, 80].map((doneMib, index) => [doneMib, index % 2 === 0 ? 30_000 : 100]);

  await prepare();

  expect(told).toEqual([
    "image docker.io/library/node:24: asking r: r does not answer; trying again",
    "image docker.io/library/node:24: fetching 100 MiB",
    "image docker.io/library/node:24: 40 MiB of 100 MiB",
    "image docker.io/library/node:24: 80 MiB of 100 MiB",
  ]);
});

test("what the machine is told is the same after a restart, and whatever a reload says meanwhile", async () => {
  const machine = await aMachineFor(node);
  await prepare();
  pool = aPool({ containers: { ...usualContainers, defaultImage: "other", privileged: false } });

  expect(await containers.bootOf(machine)).toMatchObject({ imageDisks: 2, defaultImage: "debian:13-slim" });
  expect(await create().bootOf(machine)).toMatchObject({ imageDisks: 2, defaultImage: "other" });
  pool = undefined;
  await expect(create().bootOf(machine)).rejects.toThrow("not configured any more");
});

test("a job of the shell, and one whose images are ignored, has none and opens nothing", async () => {
  const machine = await aMachineFor({});
  expect(await prepare()).toEqual({ disks: [], lines: [] });
  expect(await containers.bootOf(machine)).toBeUndefined();

  pool = aPool({ containers: { ...usualContainers, ignore: true } });
  expect(await prepare()).toEqual({ disks: [], lines: [] });
  expect(opened).toBe(0);
});

test("where nothing is said, an image that runs no containers leaves jobs as they were", async () => {
  const machine = await aMachineFor(node);
  image = anImage;

  expect(await prepare()).toEqual({ disks: [], lines: [] });
  expect(await containers.bootOf(machine)).toBeUndefined();
});

test("a pool without containers refuses a job that names an image, with one line", async () => {
  await aMachineFor(node);
  pool = aPool({ containers: { ...usualContainers, enabled: false } });

  expect(await prepare()).toEqual({
    failure: {
      cause: "unservable",
      reason:
        "it names an image or services, and this pool runs no jobs in containers (containers.enabled: false)",
    },
  });
});

test.each([
  [new ContainerError("container_not_found", "manifest unknown"), "image"],
  [new RegistryError("registry_unauthorized", "answers 403 (DENIED: no)"), "image"],
  [new ContainerError("container_layer_refused", "layer 2, entry ../x leads upwards"), "image"],
  [new RegistryError("registry_unavailable", "answers 503", { retryable: true }), "image-fetch"],
  [new ContainerError("container_no_space", "no room"), "image-fetch"],
  [new Error("anything else"), "image-fetch"],
])("%s fails the job as %s, in its own words", async (error, cause) => {
  await aMachineFor(node);
  answer = async () => await Promise.reject(error);

  expect(await prepare()).toMatchObject({
    failure: { cause, reason: expect.stringContaining(error.message) },
  });
  expect(pins.size).toBe(0);
});

test("a name that cannot be one fails the job before anything is asked", async () => {
  await aMachineFor({ image: { name: "$NOTHING" } });

  expect(await prepare()).toMatchObject({ failure: { cause: "image" } });
  expect(opened).toBe(0);
});

test("policies are tried in their order, and the last one's error counts", async () => {
  await aMachineFor({ image: { name: "node", pull_policy: ["always", "if-not-present"] } });
  answer = async (_, policy) => {
    if (policy === "always") throw new RegistryError("registry_unavailable", "answers 503");
    return {};
  };
  expect(await prepare()).toMatchObject({ disks: ["/disks/docker.io/library/node:latest"] });

  answer = async (_, policy) => await Promise.reject(new ContainerError("container_not_here", policy));
  expect(await prepare()).toMatchObject({ failure: { reason: expect.stringContaining("if-not-present") } });
  expect(asked.map(({ policy }) => policy)).toEqual(["always", "if-not-present", "always", "if-not-present"]);
});

test("images that do not come in time fail the job as what can be tried again", async () => {
  await aMachineFor(node);
  pool = aPool({ containers: { ...usualContainers, pullDeadline: 60_000 } });
  answer = () => new Promise(() => {});
  const prepared = prepare();
  await clock.advance(61_000);

  expect(await prepared).toMatchObject({
    failure: { cause: "image-fetch", reason: expect.stringContaining("not here within 1m0s") },
  });
});

test("a machine that is given up meanwhile holds nothing", async () => {
  await aMachineFor(node);
  const stop = new AbortController();
  answer = async () => {
    stop.abort(new Error("not wanted any more"));
    return {};
  };

  await expect(prepare(stop.signal)).rejects.toThrow("not wanted any more");
  expect(pins.size).toBe(0);
});

test("what an earlier process held for a machine that is gone is let go of", async () => {
  await aMachineFor(node);
  pins.set("fr-gonegone", ["x"]);
  await prepare();

  expect([...pins.keys()]).toEqual([machineId]);
});

test("no secret of the job is in what is told of its images", async () => {
  await aMachineFor({ image: { name: "registry.example.com/masked-secret-of-the-job" } });

  expect(
    JSON.stringify(await prepare().then((found) => ("lines" in found ? found.lines : found))),
  ).not.toContain("masked-secret");
  answer = async (name) => await Promise.reject(new ContainerError("container_not_found", `no ${name}`));
  expect(JSON.stringify(await prepare())).not.toContain("masked-secret");
});

describe("on a fleet", () => {
  const fleet = (more = {}) => aPool({ driver: "flintlock", containers: { ...usualContainers, ...more } });

  test("images are left to the machine, which is told of their registries", async () => {
    const machine = await aMachineFor({
      image: { name: "r.example.com:5000/tool:1" },
      services: [{ name: "redis" }, { name: "r.example.com:5000/other" }],
    });
    pool = fleet({ allow: ["r.example.com:5000/tool"] });

    const prepared = await prepare();

    const text = "is sha256:111111111111, pulled in the machine, through the relay";
    const names = [
      "r.example.com:5000/tool:1",
      "docker.io/library/redis:latest",
      "r.example.com:5000/other:latest",
    ];
    expect(prepared).toEqual({
      disks: [],
      lines: names.map((name) => ({ level: "info", subject: `image ${name}`, text })),
    });
    const boot = {
      ...{ imageDisks: 0, registries: ["r.example.com:5000", "docker.io"] },
      ...{ defaultImage: "debian:13-slim", privileged: true, socket: false },
    };
    const pulled = names.map((name, at) => ({ name, isTrusted: at === 0 }));
    // The same after a restart.
    for (const each of [containers, create()]) {
      expect(await each.bootOf(machine)).toEqual(boot);
      expect(await each.pulledBy(machine)).toEqual(pulled);
    }
    // Looked at, for this job, and not held.
    expect(asked).toEqual(names.map((name, at) => ({ name, policy: "always", isTrusted: at === 0 })));
    expect(pins.size).toBe(0);
  });

  test("one that is nowhere fails the job in the registry's words, before there is a machine", async () => {
    const machine = await aMachineFor({ image: { name: "node", pull_policy: ["never", "if-not-present"] } });
    pool = fleet();
    answer = async () => await Promise.reject(new ContainerError("container_not_found", "manifest unknown"));

    expect(await prepare()).toEqual({
      failure: { cause: "image", reason: expect.stringContaining("manifest unknown") },
    });
    expect(asked.map(({ policy }) => policy)).toEqual(["always"]);
    answer = async () => ({});
    expect(await prepare()).toMatchObject({ disks: [] });
    expect(await containers.pulledBy(machine)).toHaveLength(1);
  });

  test("services alone come with the pool's image, which is the operator's word", async () => {
    const machine = await aMachineFor({ services: [{ name: "redis" }] });
    pool = fleet({ defaultImage: "r.example.com/base:1" });
    await prepare();

    expect(await containers.pulledBy(machine)).toEqual([
      { name: "r.example.com/base:1", isTrusted: true },
      { name: "docker.io/library/redis:latest", isTrusted: false },
    ]);
  });

  test.each([
    [{ image: { name: "$NOTHING" } }, /nothing is left of it/],
    [{ image: { name: "node", pull_policy: "never" } }, /“never”, and machines of this pool begin without/],
    [{ image: { name: "node", pull_policy: "sometimes" } }, /has the pull policy “sometimes”/],
    [{ image: { name: "node", executor_opts: { docker: { platform: "linux/s390x" } } } }, /linux\/s390x/],
    [{ image: { name: "localhost/tool" } }, /registry “localhost” cannot be asked/],
  ])("what is known to fail fails before there is a machine: %j", async (fields, reason) => {
    await aMachineFor(fields);
    pool = fleet();

    expect(await prepare()).toEqual({ failure: { cause: "image", reason: expect.stringMatching(reason) } });
    expect(opened).toBe(0);
  });

  test("a job of the shell, and one on this computer, pulls none", async () => {
    const machine = await aMachineFor(node);
    await prepare();
    expect(await containers.pulledBy(machine)).toEqual([]);

    pool = fleet({ ignore: true });
    await prepare();
    expect(await containers.pulledBy(machine)).toEqual([]);
  });
});

test("pools whose jobs' images are ignored though nobody said so are told of", async () => {
  const lines: object[] = [];
  const log = { warn: (fields: object) => void lines.push(fields) };
  const said = { ...usualContainers, ignore: true };
  const pools = [aPool({ name: "a" }), aPool({ name: "b", containers: said })];

  await warnOfIgnoredImages(pools, { resolve: async () => anImage }, log);
  await warnOfIgnoredImages(pools, { resolve: async () => able }, log);

  expect(lines).toEqual([expect.objectContaining({ pool: "a" })]);
});
