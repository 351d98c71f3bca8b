/** Jobs by webhook on real microVMs, all at one time. */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { freePort } from "../../src/demo/workspace.ts";
import { newSigningKey } from "../../src/gitlab/webhook-signature.ts";
import { testImageDirectory } from "../harness/image.ts";
import { createInstallation } from "../harness/installation.ts";
import { measure } from "./holdings.ts";
import { createManager, untilReady } from "./manager.ts";
import type { Progress } from "./progress.ts";
import { type Part, partOf } from "./report.ts";
import { addHook } from "./site.ts";
import { until } from "./until.ts";
import { judge, leftovers } from "./verdict.ts";
import { watchJobs } from "./watch.ts";

const GROUP = "real";
const LIMIT_MS = 480_000;
const GONE_MS = 60_000;
const SAMPLE_MS = 2_000;
const FIRST = "the script runs on a real machine";
const LAST = "the script has come to its end";

/** Why there can be no real machines here; undefined when there can. */
export async function whyNoMachines(): Promise<string | undefined> {
  const directory = testImageDirectory();
  const names = await readdir(join(directory, "names")).catch(() => [] as string[]);
  const images = names.length > 0 ? names : await readdir(directory).catch(() => []);
  if (images.length > 0) return undefined;
  return `there is no image in ${directory}: build one with “bin/firerunner image build --output ${directory}”, name another directory with FIRERUNNER_TEST_IMAGES, or leave real machines out with --real 0`;
}

interface RealOptions {
  /** Jobs. */
  readonly real: number;
  readonly logDirectory: string;
  readonly signal: AbortSignal;
}

export async function runReal(
  { real: count, logDirectory, signal }: RealOptions,
  progress: Progress,
): Promise<Part> {
  const signingKey = newSigningKey().reveal();
  const http = `127.0.0.1:${await freePort()}`;
  const here = await createInstallation({
    settings: (gitlab) => ({
      webhook: {
        group: GROUP,
        apiToken: gitlab.tokens.add({ scopes: ["api"], memberOf: GROUP }).token,
        signingKey,
        url: `http://${http}/webhook`,
        machine: { egress: "none", disk: "2GiB" },
      },
      http: { listen: [`http://${http}`] },
      vm: { cpuOvercommit: 8, memoryReserve: "1GiB" },
    }),
  });
  await using cleanups = new AsyncDisposableStack();
  cleanups.defer(() => here.close());
  const { gitlab, state, directory, configFile } = here;
  const project = await gitlab.projects.add({ path: `${GROUP}/project` });
  addHook(gitlab, { group: GROUP, url: `http://${http}/webhook`, signingKey });
  const logFile = join(logDirectory, "load-real-manager.log");
  const manager = createManager({ configFile, state, logFile });
  cleanups.defer(() => manager.kill9());
  await manager.start();
  await untilReady(manager, ["qemu"], signal);
  const runs: { jobId: number; machineId: string }[] = [];
  const watch = watchJobs({ gitlab, runs, machineIds: () => alive, firstWords: FIRST });
  cleanups.defer(() => watch.stop());
  let alive: string[] = [];
  /** Which job a machine has says the manager; whether there is anything of it, the disk. */
  async function look(): Promise<void> {
    const machines =
      (await manager
        .daemon()
        ?.machines()
        .catch(() => [])) ?? [];
    alive = await here.machineDirectories();
    for (const { id, jobId } of machines)
      if (jobId !== null && alive.includes(id) && !runs.some(({ machineId }) => machineId === id))
        runs.push({ jobId, machineId: id });
  }
  const startedAt = Date.now();
  const measuring = cleanups.use(await measure(manager, SAMPLE_MS));
  progress.show(() => {
    const { pending, running, ended } = watch.now();
    return `load: real machines: ${running} jobs run, ${pending} wait, ${ended} of ${count} have ended`;
  });
  for (let job = 0; job < count; job++)
    await gitlab.addJob(project, {
      tags: ["firecracker-1cpu-512mb"],
      script: [
        `echo ${FIRST.replace(" ", "  ")} | tr -s ' '`,
        "sleep 10",
        `echo ${LAST.replace(" ", "  ")} | tr -s ' '`,
      ],
      variables: { GIT_STRATEGY: "none" },
      timeoutSeconds: 900,
    });
  await until(
    async () => {
      await look();
      return watch.openCount() === 0;
    },
    { limitMs: LIMIT_MS, signal },
  );
  const durationMs = Date.now() - startedAt;
  await until(
    async () => {
      await look();
      return alive.length === 0 && here.machineProcesses().length === 0;
    },
    { limitMs: GONE_MS, signal },
  );
  await measuring.end();
  const handedOver = new Map(
    ((await manager.daemon()?.jobs()) ?? []).flatMap(({ id, runningAt }) =>
      runningAt === null ? [] : [[id, runningAt] as const],
    ),
  );
  await manager.stop();
  watch.stop();
  const jobs = gitlab.jobs.all();
  const left = [...alive.map((id) => `machine ${id}`), ...leftovers(directory, state)];
  const worked = jobs.filter((job) => job.trace.text().includes(LAST));
  const verdict = judge({
    ...{ jobs, firstWords: FIRST, lastWords: LAST, left, astray: () => undefined },
    runs: worked.map(({ id }) => ({
      ...{ jobId: id, givenAt: 0, workedAt: 1 },
      machineId: runs.find(({ jobId }) => jobId === id)?.machineId ?? "",
    })),
  });
  return partOf("real machines", {
    ...{ gitlab, watch, verdict, durationMs },
    givenAt: handedOver,
    manager: measuring.holdings(jobs.length),
  });
}
