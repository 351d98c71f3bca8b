import { createHash, timingSafeEqual } from "node:crypto";
import { crc32 } from "node:zlib";
import { Secret } from "../base/secret.ts";
import { isJobResult } from "../domain/job-end.ts";
import { JobPayload } from "../gitlab/runner-api.ts";
import type { Job, JobStore, MachineStore } from "../store/store.ts";
import { Refusal } from "./errors.ts";
import type { Guest } from "./guest.ts";

/** What a guest told GitLab at the end of its job. */
export interface FinalUpdate {
  readonly state: "success" | "failed";
  readonly failureReason: string | undefined;
}

/** Lines of ours behind the runner's last byte. */
interface TraceTail {
  /** Bytes of the runner's before them, as it counts them itself. */
  readonly startBytes: number;
  readonly bytes: Buffer;
  readonly crc: number;
}

/** The job that a machine has been given, as far as the relay needs it for the guest's requests. */
export interface JobSession {
  readonly jobId: number;
  readonly token: Secret;
  /** Tokens by which the job may fetch artifacts, by the id of the job that made them. */
  readonly dependencies: ReadonlyMap<number, Secret>;
  /** Our own lines before the runner's first byte, and their CRC-32. */
  readonly head: Buffer;
  readonly headCrc: number;
  /** Our lines behind the runner's last byte; undefined until it has told of a failure. */
  tail: TraceTail | undefined;
  /** GitLab is known to have the head. */
  isHeadSent: boolean;
  /** The guest has used the job's token: it has the payload. */
  isTokenSeen: boolean;
  /** GitLab has asked for a graceful cancel. */
  isCanceling: boolean;
  /** GitLab's time limit for the job. */
  readonly timeoutMs: number;
  /** The end that the guest has told GitLab, whether or not GitLab's answer came. */
  told: FinalUpdate | undefined;
  /** Where GitLab sent uploads instead (`https://other.example.com`). */
  uploadOrigin: string | undefined;
}

export function sessionOf(job: Job, payload: string): JobSession {
  const { id, token, dependencies } = JobPayload.parse(JSON.parse(payload));
  const head = Buffer.from(job.traceHead, "utf8");
  return {
    jobId: id,
    token: new Secret(token),
    dependencies: new Map((dependencies ?? []).map((each) => [each.id, new Secret(each.token)])),
    head,
    headCrc: crc32(head),
    tail: undefined,
    isHeadSent: job.traceSize >= head.length,
    isTokenSeen: job.traceSize > head.length,
    isCanceling: false,
    timeoutMs: job.timeoutMs,
    told: undefined,
    uploadOrigin: undefined,
  };
}

/** The session of a guest whose job is running on this machine; undefined when there is none. */
export async function currentSession(
  store: JobStore & MachineStore,
  guest: Guest,
): Promise<JobSession | undefined> {
  const job = await jobOf(store, guest.machineId);
  if (job?.state !== "running") return undefined;
  return await sessionFor(store, guest, job);
}

/**
 * The session, for a request on behalf of job `jobId` with `token`. Throws Refusal: 403 for another's job or a wrong token, GitLab's own
 * 403 with `Job-Status` when the job has ended, 503 while its end is being reported.
 */
export async function admit(
  store: JobStore & MachineStore,
  guest: Guest,
  { jobId, token }: { jobId: number; token: string | undefined },
): Promise<JobSession> {
  const job = await jobOf(store, guest.machineId);
  if (job === undefined || job.id !== jobId) throw new Refusal(403, "403 Forbidden", { rule: "wrong-job" });
  if (job.state === "finished") throw endedRefusal(job.result ?? undefined);
  if (job.state === "failing") throw new Refusal(503, "this machine is being stopped");
  const session = job.state === "running" ? await sessionFor(store, guest, job) : undefined;
  if (session === undefined || token === undefined || !isSecret(session.token, token)) {
    throw new Refusal(403, "403 Forbidden", { rule: "wrong-token" });
  }
  session.isTokenSeen = true;
  return session;
}

/** As GitLab answers for a job that is over. */
export function endedRefusal(status: string | undefined): Refusal {
  const headers = isJobResult(status) ? { "Job-Status": status } : {};
  return new Refusal(403, "403 Forbidden - Job is not processing on runner", { headers });
}

/** Compares in a time that does not depend on where the two differ. */
export function isSecret(secret: Secret, given: string): boolean {
  const digest = (text: string) => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(secret.reveal()), digest(given));
}

async function jobOf(store: JobStore & MachineStore, machineId: string): Promise<Job | undefined> {
  const machine = await store.machine(machineId);
  const jobId = machine?.jobId ?? undefined;
  const job = jobId === undefined ? undefined : await store.job(jobId);
  return job?.machineId === machineId ? job : undefined;
}

async function sessionFor(
  store: JobStore & MachineStore,
  guest: Guest,
  job: Job,
): Promise<JobSession | undefined> {
  if (guest.session?.jobId === job.id) return guest.session;
  const payload = await store.payload(job.id);
  if (payload === undefined) return undefined;
  // Two requests at once must share one session: what the one learns, the other must know.
  guest.session ??= sessionOf(job, payload);
  return guest.session;
}
