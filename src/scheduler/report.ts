/**
 * Tells GitLab that a job failed, and why, until GitLab has acknowledged it. A report can be cut off anywhere and begun
 * again: the tail is always the same bytes at the same place (`traceSize`, which a report does not move), and GitLab takes
 * a repetition of a trace's last bytes as what it is.
 */

import type { Clock } from "../base/clock.ts";
import { describeError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { backoffMs } from "../base/rates.ts";
import type { Secret } from "../base/secret.ts";
import { formatDuration } from "../base/units.ts";
import { failureReasonOf, failures, resultOfStatus } from "../domain/job-end.ts";
import { describeSize } from "../domain/size.ts";
import type { RemoteJobStatus, RunnerApi } from "../gitlab/runner-api.ts";
import type { EventStore, Job, JobStore, Machine, MachineStore } from "../store/store.ts";
import { recordedConsoleTail } from "./console-tail.ts";
import { SchedulerError } from "./errors.ts";
import { jobTokenOf, readPayload } from "./payload.ts";
import type { Cooldown } from "./task-queue.ts";

interface ReporterDeps {
  readonly store: JobStore & MachineStore & EventStore;
  readonly api: Pick<RunnerApi, "updateJob" | "appendTrace">;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
}

/** After so many failures the result goes without the tail: the end of a job matters more than its last lines. */
const TRIES_WITH_TAIL = 4;
const MOST_CORRECTIONS = 3;
const limits = { baseMs: 1_000, capMs: 60_000 };

/** `failures`: reports of this job that failed in this process so far. */
export async function report(
  deps: ReporterDeps,
  jobId: number,
  failures: number,
): Promise<Cooldown | "postponed" | undefined> {
  const { store, log } = deps;
  const job = await store.job(jobId);
  if (job?.state !== "failing") return undefined;
  const jobToken = await tokenOf(deps, job);
  if (!jobToken) return undefined;
  try {
    if (failures < TRIES_WITH_TAIL) {
      const problem = await appendTail(deps, job, jobToken);
      if (problem) return await postpone(deps, job, failures, problem.waitMs, problem.problem);
    }
    const failureReason = failureReasonOf(job.cause);
    const answer = await deps.api.updateJob({ jobId, jobToken, state: "failed", failureReason });
    return await conclude(deps, job, failures, answer);
  } catch (error) {
    log.warn({ jobId, error: describeError(error) }, "reporting a failed job failed");
    return await postpone(deps, job, failures, 0, describeError(error));
  }
}

/** Without its payload a job has no token and cannot be reported: GitLab's own watchdog has to end it. */
async function tokenOf({ store, log }: ReporterDeps, job: Job): Promise<Secret | undefined> {
  try {
    return jobTokenOf(await readPayload(store, job.id));
  } catch (error) {
    if (!(error instanceof SchedulerError)) throw error;
    log.error({ jobId: job.id, error: describeError(error) }, "job cannot be reported to GitLab");
    const reason = `${job.reason ?? "it failed"}; GitLab could not be told: ${describeError(error)}`;
    await store.finishJob(job.id, "unknown", { reason });
    return undefined;
  }
}

interface Problem {
  readonly waitMs: number;
  readonly problem: string;
}

/** Writes the head, where GitLab does not have it yet, and the tail. */
async function appendTail(
  { store, api }: ReporterDeps,
  job: Job,
  jobToken: Secret,
): Promise<Problem | undefined> {
  const machine = job.machineId === null ? undefined : await store.machine(job.machineId);
  const console = machine && (await recordedConsoleTail(store, machine.id));
  const head = Buffer.from(job.traceHead);
  const tail = Buffer.from(failureTail(job, machine, console));
  let startBytes = job.traceSize;
  for (let correction = 0; correction < MOST_CORRECTIONS; correction++) {
    const bytes = Buffer.concat([head.subarray(Math.min(startBytes, head.length)), tail]);
    const answer = await api.appendTrace({ jobId: job.id, jobToken, startBytes, bytes });
    if (answer.kind === "unavailable") return answer;
    if (answer.kind !== "elsewhere" || answer.sizeBytes === startBytes + bytes.length) return undefined;
    // What the guest wrote last was acknowledged by GitLab but not noted by us.
    startBytes = answer.sizeBytes;
    await store.setTraceSize(job.id, startBytes);
  }
  return undefined;
}

async function conclude(
  deps: ReporterDeps,
  job: Job,
  failures: number,
  answer: RemoteJobStatus,
): Promise<Cooldown | "postponed" | undefined> {
  const { store } = deps;
  switch (answer.kind) {
    case "again":
      return { forMs: Math.max(answer.waitMs, limits.baseMs) };
    case "unavailable":
      return await postpone(deps, job, failures, answer.waitMs, answer.problem);
    case "over":
      await store.finishJob(job.id, resultOfStatus(answer.status));
      return undefined;
    case "accepted":
      await store.finishJob(job.id, endOf(answer.status));
      return undefined;
  }
}

/** A job that was being canceled becomes `canceled` whatever is reported. */
function endOf(status: string | undefined): "failed" | "canceled" {
  return status === "canceled" ? "canceled" : "failed";
}

async function postpone(
  { store, clock, random }: ReporterDeps,
  job: Job,
  failures: number,
  waitMs: number,
  problem: string,
): Promise<"postponed"> {
  const ownMs = backoffMs(failures + 1, random, limits);
  await store.postponeReport(job.id, clock.now() + Math.max(ownMs, waitMs), problem);
  return "postponed";
}

// Our lines in the trace -----------------------------------------------------------------------------------------

const colours = { info: "\u001b[0;36m", warning: "\u001b[0;33m", error: "\u001b[31;1m" } as const;

/** A line of our own in a job's trace. */
export function traceLine(level: keyof typeof colours, text: string): string {
  return `${colours[level]}FireRunner: ${text}\u001b[0;m\n`;
}

/**
 * What ends the trace of a job that FireRunner itself had to fail. Made of rows that no longer change, so that every
 * try to report writes the same bytes.
 */
function failureTail(job: Job, machine: Machine | undefined, console: string | undefined): string {
  const { hint } = failures[job.cause ?? "machine"];
  const lines = [traceLine("error", `the job failed: ${job.reason ?? "the reason was not recorded"}`)];
  if (hint !== "") lines.push(traceLine("error", hint));
  if (machine && !isOfImages(job)) lines.push(traceLine("error", describeMachine(job, machine)));
  if (machine && console) {
    lines.push(traceLine("error", `last lines of the console of ${machine.id}:`));
    lines.push(...console.split("\n").map((line) => `  ${line}\n`));
  }
  // The runner's bytes may have stopped in mid-line.
  return `\n${lines.join("")}`;
}

/** Without its images the machine of a job is not made. */
function isOfImages({ cause }: Job): boolean {
  return cause === "image" || cause === "image-fetch";
}

function describeMachine(job: Job, machine: Machine): string {
  const parts = [`machine ${machine.id} (${describeSize(machine.size)})`, `attempt ${job.attempt}`];
  const endedAt = job.failingAt ?? machine.stoppingAt;
  if (job.runningAt !== null && endedAt !== null)
    parts.push(
      `the job had run for ${formatDuration(endedAt - job.runningAt)}`,
      "what it printed in its last seconds may be missing above",
    );
  else parts.push("the job had not begun");
  return parts.join(", ");
}
