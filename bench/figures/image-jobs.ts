import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Job } from "@firerunner/gitlab-stand-in/model";
import { MIB_BYTES } from "../../src/base/units.ts";
import { imageOf, type TestImage, tarOf } from "../../test/builders/layer.ts";
import { type ImageRegistry, startImageRegistry } from "../../test/servers/image-registry.ts";
import { type BenchContext, compare, type Figure, type Row } from "../core/figure.ts";
import { summarize } from "../core/statistics.ts";
import { createFakeInstallation, type FakeInstallation } from "../parts/installation.ts";

const JOBS = 100;
const POOLS = 4;
const LAYERS = 3;

interface Measured {
  readonly imageClaims: readonly number[];
  readonly shellClaims: readonly number[];
  /** How often each layer was fetched, of the one that was most often. */
  readonly fetches: readonly number[];
  /** Bytes that came for an image, over those of its layers that no image before had. */
  readonly shares: readonly number[];
}

export const imageJobs: Figure = {
  name: "image-jobs",
  title: `${JOBS} jobs at once with an image that is not here`,
  about: `FireRunner in a process of its own with ${JOBS} fake machines of ${POOLS} runners, and a registry on loopback. ${JOBS} jobs are queued at one moment that name the same new image of ${LAYERS} layers, one of which is new in each turn; in turns with as many jobs of the shell. Claims in a second are those between the first and the last claim. The registry counts what it sends: each layer may be fetched once, and of the later images only the new layer.`,
  machines: false,
  limitMs: 240_000,
  async measure(context) {
    const { jobs, turns } = context.quick ? { jobs: 8, turns: 2 } : { jobs: JOBS, turns: 6 };
    const registry = await startImageRegistry();
    context.defer(() => registry[Symbol.asyncDispose]());
    const pools = new Array(POOLS).fill(Math.ceil(jobs / POOLS));
    const installation = await createFakeInstallation(context, { pools, registry: registry.host });
    const measured = { imageClaims: [], shellClaims: [], fetches: [], shares: [] };
    await measureTurns(context, { registry, installation, jobs, turns }, measured);
    return summarizeImageJobs(measured);
  },
};

function summarizeImageJobs({ imageClaims, shellClaims, fetches, shares }: Measured): Row[] {
  const claims = {
    what: "claims, jobs with a new image",
    unit: "per second",
    measured: summarize(imageClaims),
    promised: { of: "median", bound: "at least", value: 25 },
  } as const;
  const once = { of: "max", bound: "at most", value: 1 } as const;
  return [
    compare(claims, "jobs of the shell", summarize(shellClaims)),
    { what: "fetches of one layer", unit: "times", measured: summarize(fetches), promised: once },
    {
      what: "fetched for a further image, over its new layer",
      unit: "times",
      measured: summarize(shares),
      promised: once,
    },
  ];
}

interface Turns {
  readonly registry: ImageRegistry;
  readonly installation: FakeInstallation;
  readonly jobs: number;
  readonly turns: number;
}

async function measureTurns(
  context: BenchContext,
  { registry, installation, jobs, turns }: Turns,
  measured: { [Name in keyof Measured]: number[] },
): Promise<void> {
  const shared = Array.from({ length: LAYERS - 1 }, (_, number) => aLayer(`shared-${number}`));
  // The program has begun, and the cache is open.
  await runAll(installation, 1, undefined);
  for (let turn = 0; turn < turns; turn++) {
    context.progress(`turn ${turn + 1} of ${turns}`);
    const image = imageOf([...shared, aLayer(`own-${turn}`)]);
    registry.put("bench/image", String(turn), image);
    const before = registry.asked().length;
    measured.imageClaims.push(await runAll(installation, jobs, `${registry.host}/bench/image:${turn}`));
    const fetched = fetchesOf(image, registry.asked().slice(before));
    measured.fetches.push(Math.max(...fetched.map(({ times }) => times)));
    const came = fetched.reduce((sum, { bytes, times }) => sum + bytes * times, 0);
    if (turn > 0) measured.shares.push(came / (fetched.at(-1)?.bytes ?? 0));
    measured.shellClaims.push(await runAll(installation, jobs, undefined));
  }
}

function fetchesOf({ layers }: TestImage, asked: readonly string[]) {
  return layers.map(({ digest, blob }) => ({
    bytes: blob.length,
    times: asked.filter((line) => line === `GET blobs/${digest}`).length,
  }));
}

/** Not to be compressed. */
function aLayer(name: string): Buffer {
  return tarOf([{ path: name, content: randomBytes(2 * MIB_BYTES) }]);
}

/** Queues them all and waits until they have ended; answers how many were claimed in a second. */
async function runAll(
  installation: FakeInstallation,
  count: number,
  image: string | undefined,
): Promise<number> {
  const added: Job[] = [];
  for (let job = 0; job < count; job++)
    added.push(await installation.addJob(job % POOLS, { runMs: 0 }, image));
  while (!added.every(({ status }) => status === "success")) await sleep(20);
  const claimed = added.map(({ startedAt = 0 }) => startedAt);
  const tookMs = Math.max(...claimed) - Math.min(...claimed);
  return (count / Math.max(1, tookMs)) * 1_000;
}
