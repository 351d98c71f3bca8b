import { oneLine } from "../base/plain-text.ts";
import { formatDuration } from "../base/units.ts";
import { describeSize } from "../domain/size.ts";
import type { RunnerApi, TraceStatus } from "../gitlab/runner-api.ts";
import { JobPayload } from "../gitlab/runner-api.ts";
import { appendWithRecovery, maskSecrets } from "../gitlab/trace.ts";
import type { Job, JobStore, Machine } from "../store/store.ts";
import { Refusal } from "./errors.ts";
import { foreignProxies } from "./job-proxies.ts";
import { endedRefusal, type JobSession } from "./job-session.ts";

const CYAN = "\u001b[0;36m";
export const YELLOW = "\u001b[0;33m";
const RESET = "\u001b[0;m";
const LONGEST_NAME = 200;
const RELAY_ADDRESS = "10.0.2.100";

/**
 * The lines that open the trace of a job at its hand-over, or nothing when an earlier try at it has written them. Machines that
 * died before are in `job.traceHead` already.
 */
export function composeTraceHead(job: Job, machine: Machine, payload: string, now: number): string {
  if (job.traceHead.includes(machineWords(machine))) return "";
  const parsed = JobPayload.parse(JSON.parse(payload));
  return `${machineLine(job, machine, now)}${ignoredLines(parsed)}${proxyLine(machine, parsed)}`;
}

function machineLine(job: Job, machine: Machine, now: number): string {
  const readyAt = machine.readyAt ?? now;
  const sinceClaim = formatDuration(readyAt - job.claimedAt);
  const sinceCreation = formatDuration(readyAt - machine.createdAt);
  const where = `${describeSize(machine.size)}, ${machine.driver} on ${machine.host}`;
  return line(
    CYAN,
    `${machineWords(machine)} (${where}) was ready ${sinceClaim} after the job was claimed, ${sinceCreation} after it was created.`,
  );
}

function machineWords(machine: Machine): string {
  return `FireRunner: machine ${machine.id}`;
}

function ignoredLines(payload: JobPayload): string {
  const image = payload.image?.name;
  const services = (payload.services ?? []).map((service) => service.name);
  const ignored = [
    ...(image ? [`image: ${image}`] : []),
    ...(services.length > 0 ? [`services: ${services.join(", ")}`] : []),
  ];
  const lines = ignored.map((text) =>
    ignoredLine(payload, text, "the shell executor runs scripts in the machine itself"),
  );
  if (payload.cache && payload.cache.length > 0)
    lines.push(ignoredLine(payload, cacheWords(payload.cache), "caches are not kept from job to job yet"));
  return lines.join("");
}

function cacheWords(caches: NonNullable<JobPayload["cache"]>): string {
  const keys = caches.flatMap(({ key }) => (typeof key === "string" && key !== "" ? [key] : []));
  return keys.length === 0 ? "cache" : `cache: ${keys.join(", ")}`;
}

function ignoredLine(payload: JobPayload, text: string, why: string): string {
  return line(YELLOW, `FireRunner: “${shownText(text, payload)}” is ignored: ${why}.`);
}

function shownText(text: string, payload: JobPayload): string {
  return maskSecrets(oneLine(text), payload).slice(0, LONGEST_NAME);
}

/** A machine on this computer has no way to any proxy but ours; what one on another host can reach is that host's affair. */
function proxyLine({ host }: Machine, payload: JobPayload): string {
  const foreign = host === "local" ? foreignProxies(payload.variables ?? [], RELAY_ADDRESS) : [];
  if (foreign.length === 0) return "";
  const shown = shownText(foreign.join(", "), payload);
  return line(
    YELLOW,
    `FireRunner: the job sets ${shown}: this machine cannot reach a proxy of that kind, its only way out is FireRunner's own and what the pool's egress allows. GitLab is reached without it.`,
  );
}

/** One line of ours in a job's log. */
export function line(colour: string, text: string): string {
  return `${colour}${text}${RESET}\n`;
}

/**
 * Makes sure that GitLab has our head, so that the runner's bytes can follow it. Throws Refusal: 503 when GitLab does not answer,
 * GitLab's own 403 when the job is over (`onOver` has then been called with its status).
 */
export async function ensureHead(
  { api, store }: { api: Pick<RunnerApi, "appendTrace">; store: JobStore },
  session: JobSession,
  onOver: (status: string | undefined) => Promise<void>,
): Promise<void> {
  if (session.isHeadSent) return;
  const { jobId, token: jobToken, head: bytes } = session;
  const standing = await appendWithRecovery({ api, jobId, jobToken, startBytes: 0, bytes });
  if (standing.kind !== "accepted") throw await refusalOf(standing, onOver);
  session.isHeadSent = true;
  await store.setTraceSize(jobId, standing.sizeBytes);
}

/** What a guest is told when GitLab has not taken lines of ours; that its job is over is told to `onOver` first. */
export async function refusalOf(
  standing: TraceStatus,
  onOver: (status: string | undefined) => Promise<void>,
): Promise<Refusal> {
  if (standing.kind === "over") {
    await onOver(standing.status);
    return endedRefusal(standing.status);
  }
  return new Refusal(503, "GitLab does not take the trace just now; try again", {
    headers: { "Retry-After": "3" },
  });
}
