/**
 * Plays jobs from their claim to the end of their machines, a few at a time, and makes their traces: as much of FireRunner as that needs, in a
 * process that a test can kill. Goes on with what it finds in the store. Ends when no trace waits any more.
 *
 *   node traced-jobs-process.ts STATE-DIRECTORY COLLECTOR-URL JOBS
 */
import { join } from "node:path";
import pLimit from "p-limit";
import { systemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { directRoutes } from "../../src/base/proxy/routes.ts";
import { traceOfJob } from "../../src/domain/trace-context.ts";
import { createStore } from "../../src/store/create-store.ts";
import { createSender } from "../../src/telemetry/traces/sender.ts";
import { createTracer } from "../../src/telemetry/traces/tracer.ts";
import { aClaim } from "../builders/job.ts";
import { aNewMachine } from "../builders/machine.ts";

const [state = "", endpoint = "", jobs = "0"] = process.argv.slice(2);
const store = await createStore({
  database: join(state, "firerunner.db"),
  keyFile: join(state, "key"),
  clock: systemClock,
  log: silentLog,
});
const access = { headers: [], ca: undefined };
const sender = createSender({ endpoint, timeoutMs: 10_000, access, proxies: directRoutes }, systemClock);
const tracer = createTracer({
  queue: store,
  sender: () => sender,
  producer: { version: "0", installationId: store.installationId },
  keepMs: () => 3_600_000,
  gitlabUrl: "https://gitlab.example.com",
  ...{ clock: systemClock, random: Math.random, log: silentLog },
});
tracer.start();
const fewAtOnce = pLimit(5);
const ids = Array.from({ length: Number(jobs) }, (_, index) => index + 1);
await Promise.all(ids.map((id) => fewAtOnce(() => play(id))));
while ((await store.waitingTraces()) > 0) await systemClock.sleep(20);
await tracer.stop();
await sender.close();
await store.close();

/** Each step is refused where it was made before. */
async function play(id: number): Promise<void> {
  const trace = { ...traceOfJob(store.installationId, id), pipelineId: 1, projectId: 1 };
  await store.claim(aClaim({ jobId: id, trace }));
  const machine = `fr-${String(id).padStart(8, "a")}`;
  await store.startJob(id, aNewMachine({ id: machine }));
  await store.markBooting(machine);
  await store.markHeard(machine);
  await store.markReady(machine);
  await store.handOver(id, machine);
  await store.finishJob(id, "success");
  await store.stopMachine(machine, "its job has ended");
  await store.markGone(machine);
  await systemClock.sleep(20);
}
