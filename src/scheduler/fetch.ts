/** What stands between a machine's row and the machine: the images that its job names must be here, as disks. */
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { JobFailure } from "../domain/job-end.ts";
import { hostKey } from "../domain/placement.ts";
import type { JobStore, Machine, MachineStore } from "../store/store.ts";
import type { Fleet } from "../vm/driver.ts";
import type { JobImages } from "./ports.ts";
import { traceLine } from "./report.ts";

interface FetchDeps {
  readonly fleet: Pick<Fleet, "hosts">;
  readonly store: Pick<JobStore, "job" | "failJob" | "addTraceHead"> & Pick<MachineStore, "machine">;
  readonly jobImages: JobImages;
  readonly clock: Clock;
  readonly log: Log;
  /** Disks with the images of jobs, by machine: what a create gives it. */
  readonly imageDisks: Map<string, readonly string[]>;
  /** How long a job waited for its images, by job: that is no time of its start. */
  readonly fetchedMs: Map<number, number>;
}

/** Gets what the machine's job needs in disks. Returns whether the machine is to be created. */
export async function fetchImages(deps: FetchDeps, machineId: string, signal: AbortSignal): Promise<boolean> {
  const { store, log } = deps;
  const machine = await store.machine(machineId);
  if (machine?.state !== "creating" || machine.jobId === null) return false;
  const { jobId, pool, image } = machine;
  const startedAt = deps.clock.now();
  const found = await deps.jobImages.prepare({ jobId, machineId, pool, image }, signal);
  const before = deps.fetchedMs.get(jobId) ?? 0;
  deps.fetchedMs.set(jobId, before + deps.clock.now() - startedAt);
  const job = await store.job(jobId);
  // Whoever has another machine by now, or none, is not ours to fail.
  if (job?.state !== "starting" || job.machineId !== machineId) return false;
  const failure = "failure" in found ? found.failure : tooMany(deps.fleet, machine, found.disks.length);
  if (failure !== undefined) {
    log.warn({ jobId, machineId, reason: failure.reason }, "the images of a job could not be had");
    await store.failJob(jobId, failure);
  }
  if (failure !== undefined || "failure" in found) return false;
  // An earlier machine of this job, or an earlier process, may have told of them.
  const news = found.lines.filter(({ subject }) => !job.traceHead.includes(`FireRunner: ${subject} `));
  const text = news.map((line) => traceLine(line.level, `${line.subject} ${line.text}`)).join("");
  if (text !== "") await store.addTraceHead(jobId, text);
  deps.imageDisks.set(machineId, found.disks);
  return true;
}

/** No machine of that driver could have them, however often it is tried. */
function tooMany({ hosts }: Pick<Fleet, "hosts">, machine: Machine, count: number): JobFailure | undefined {
  const most = hosts().get(hostKey(machine))?.mostImageDisks ?? count;
  if (count <= most) return undefined;
  return {
    reason: `it names ${count} images and services, and its machine can have ${most}`,
    cause: "image",
  };
}
