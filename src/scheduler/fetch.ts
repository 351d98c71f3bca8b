/**
 * What stands between a machine's row and the machine: the images that its job names must be here, as disks. Whoever waits for them sees it
 * in the job's log.
 */
import type { Clock } from "../base/clock.ts";
import { describeError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import type { JobFailure } from "../domain/job-end.ts";
import { hostKey } from "../domain/placement.ts";
import type { RunnerApi } from "../gitlab/runner-api.ts";
import { appendWithRecovery } from "../gitlab/trace.ts";
import type { EventStore, JobStore, Machine, MachineStore } from "../store/store.ts";
import type { Fleet } from "../vm/driver.ts";
import { jobTokenOf, readPayload } from "./payload.ts";
import type { ImageLine, JobImages } from "./ports.ts";
import { traceLine } from "./report.ts";

interface FetchDeps {
  readonly fleet: Pick<Fleet, "hosts">;
  readonly store: JobStore & Pick<MachineStore, "machine"> & Pick<EventStore, "note">;
  readonly api: Pick<RunnerApi, "appendTrace">;
  readonly jobImages: JobImages;
  readonly clock: Clock;
  readonly log: Log;
  /** Disks with the images of jobs, by machine: what a create gives it. */
  readonly imageDisks: Map<string, readonly string[]>;
  /** How long a job waited for its images, by job: that is no time of its start. */
  readonly fetchedMs: Map<number, number>;
}

/** A machine does not wait longer for GitLab to take a line; it comes with the next, or when the machine has its job. */
const LINE_LIMIT_MS = 5_000;

/** Gets what the machine's job needs in disks. Returns whether the machine is to be created. */
export async function fetchImages(deps: FetchDeps, machineId: string, signal: AbortSignal): Promise<boolean> {
  const { store, log, clock } = deps;
  const machine = await store.machine(machineId);
  if (machine?.state !== "creating" || machine.jobId === null) return false;
  const { jobId, pool, image } = machine;
  const startedAt = clock.now();
  const lines = createJobLines(deps, { jobId, machineId });
  const found = await deps.jobImages
    .prepare({ jobId, machineId, pool, image }, signal, lines.tell)
    .finally(lines.end);
  const tookMs = clock.now() - startedAt;
  deps.fetchedMs.set(jobId, (deps.fetchedMs.get(jobId) ?? 0) + tookMs);
  const job = await store.job(jobId);
  // Whoever has another machine by now, or none, is not ours to fail.
  if (job?.state !== "starting" || job.machineId !== machineId) return false;
  const failure = "failure" in found ? found.failure : tooMany(deps.fleet, machine, found.disks.length);
  if (failure !== undefined) {
    log.warn({ jobId, machineId, reason: failure.reason }, "the images of a job could not be had");
    await store.failJob(jobId, failure);
  }
  if (failure !== undefined || "failure" in found) return false;
  if (found.disks.length > 0) await store.note("machine:images-here", { machineId }, { tookMs });
  // An earlier machine of this job, or an earlier process, may have told of them.
  const news = found.lines.filter(({ subject }) => !job.traceHead.includes(`FireRunner: ${subject} `));
  await addLines(store, jobId, news);
  deps.imageDisks.set(machineId, found.disks);
  return true;
}

async function addLines(
  store: Pick<JobStore, "addTraceHead">,
  jobId: number,
  lines: readonly ImageLine[],
): Promise<void> {
  const text = lines.map(({ level, subject, text }) => traceLine(level, `${subject} ${text}`)).join("");
  if (text !== "") await store.addTraceHead(jobId, text);
}

/** Lines of the job's log while there is no machine yet, one after the other. Nothing that fails here is in the way of the images. */
function createJobLines(
  { store, api, clock, log }: FetchDeps,
  { jobId, machineId }: { readonly jobId: number; readonly machineId: string },
) {
  const over = new AbortController();
  let last: Promise<void> | undefined;

  async function send(): Promise<void> {
    const job = await store.job(jobId);
    if (job?.state !== "starting" || over.signal.aborted) return;
    const jobToken = jobTokenOf(await readPayload(store, jobId));
    const head = Buffer.from(job.traceHead);
    const startBytes = Math.min(job.traceSize, head.length);
    const bytes = head.subarray(startBytes);
    const { kind, ...status } = await appendWithRecovery({ api, jobId, jobToken, startBytes, bytes });
    // Once the machine may have the job, what GitLab has is counted by the relay.
    if (over.signal.aborted || kind !== "accepted" || !("sizeBytes" in status)) return;
    await store.setTraceSize(jobId, status.sizeBytes);
  }

  async function write(line: ImageLine): Promise<void> {
    if (over.signal.aborted) return;
    await addLines(store, jobId, [line]);
    await send();
  }

  return {
    tell(line: ImageLine): void {
      last ??= store.note("machine:fetching", { machineId }, {});
      last = last
        .then(() => write(line))
        .catch((error: unknown) =>
          log.info({ jobId, error: describeError(error) }, "a line on a job's images was not written"),
        );
    },
    /** Resolves when nothing is written any more. */
    async end(): Promise<void> {
      if (last === undefined) return;
      await Promise.race([last, clock.sleep(LINE_LIMIT_MS, over.signal).catch(() => {})]);
      over.abort();
    },
  };
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
