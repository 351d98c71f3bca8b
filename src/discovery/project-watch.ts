/**
 * When a project's pending jobs are to be read, and which project is next: soon after a hook, a little later where the hook concerns
 * no job that waits, and now and then in any case. Times are epoch ms.
 */
import { backoffMs } from "../base/rates.ts";
import type { ApiPace } from "./api-pace.ts";
import type { PendingJobIndex } from "./pending-job-index.ts";
import type { ReceivedHook } from "./webhook-receiver.ts";

/** A burst of hooks is one read: it waits for this long a pause between them … */
const QUIET_MS = 50;
/** … but no longer than this. */
const LONGEST_BURST_MS = 250;
/** A job that starts or ends elsewhere changes nothing that anybody waits for. */
const LAZY_MS = 5_000;
/** A read may be answered by a database that has not heard of the job yet: these long after it the project is read again. */
const REREADS_MS: readonly number[] = [1_000, 5_000];
/** Jobs of one project that reads are repeated for. The slow poll finds any others. */
const MOST_AWAITED = 500;
/** So that projects that were first read together are not read together for ever. */
const SPREAD = 0.1;

export interface ProjectWatch {
  readonly id: number;
  /** `group/project`, or empty while only its id is known. */
  path: string;
  /** When a hook last told of anything; 0 for never. */
  hookedAt: number;
  /** When the last good read in this process began; 0 for never. */
  readAt: number;
  isReading: boolean;
  /** The first and the last hook that ask for a read at once. */
  burst: { readonly firstAt: number; lastAt: number } | undefined;
  /** When to look at news that nobody waits for. */
  lazyAt: number;
  /** When to look again for jobs that a hook told of and a read did not show. */
  rereadAt: number;
  /** The next read that nothing calls for. */
  pollAt: number;
  /** Not before this, after a failure. */
  waitUntil: number;
  failures: number;
  /** Why this project, of all, cannot be read. */
  problem: string | undefined;
  /** Jobs that a hook called pending and no read has shown, and how often it was looked for in vain. */
  readonly awaited: Map<number, number>;
}

/** Reads that nothing calls for make way for others, but not for ever. */
const LONGEST_PUT_OFF_MS = 300_000;

const NEVER = Number.POSITIVE_INFINITY;

export function newProjectWatch(
  project: { readonly id: number; readonly path: string; readonly hookedAt: number | null },
  now: number,
): ProjectWatch {
  const { id, path, hookedAt } = project;
  const never = { lazyAt: NEVER, rereadAt: NEVER, burst: undefined };
  const fresh = { readAt: 0, pollAt: now, waitUntil: 0, failures: 0, problem: undefined };
  return { id, path, hookedAt: hookedAt ?? 0, isReading: false, ...never, ...fresh, awaited: new Map() };
}

/** A read is asked for at once. `jobId`: a job that it should show. */
export function requestRead(watch: ProjectWatch, now: number, jobId?: number): void {
  if (watch.burst) watch.burst.lastAt = now;
  else watch.burst = { firstAt: now, lastAt: now };
  if (jobId !== undefined && watch.awaited.size < MOST_AWAITED) watch.awaited.set(jobId, 0);
}

/** There is news, but none that a waiting job depends on. */
function requestLaterRead(watch: ProjectWatch, now: number): void {
  watch.lazyAt = Math.min(watch.lazyAt, now + LAZY_MS);
}

/** From when on a read must not wait for others: somebody waits for it, or it was put off for too long. */
function urgentAt({ burst, rereadAt, pollAt, waitUntil }: ProjectWatch): number {
  const burstAt = burst ? Math.min(burst.lastAt + QUIET_MS, burst.firstAt + LONGEST_BURST_MS) : NEVER;
  return Math.max(waitUntil, Math.min(burstAt, rereadAt, pollAt + LONGEST_PUT_OFF_MS));
}

function dueAt(watch: ProjectWatch): number {
  return Math.max(watch.waitUntil, Math.min(urgentAt(watch), watch.lazyAt, watch.pollAt));
}

/** What a read was begun for, to be asked for again if it fails. */
export interface Read {
  readonly beganAt: number;
  readonly burst: ProjectWatch["burst"];
}

/** From here on hooks call for the next read. */
export function beginRead(watch: ProjectWatch, now: number): Read {
  const { burst } = watch;
  Object.assign(watch, { isReading: true, burst: undefined, lazyAt: NEVER, rereadAt: NEVER });
  return { beganAt: now, burst };
}

/** `shows`: whether a job was seen, or need not be looked for any more. */
export function endRead(
  watch: ProjectWatch,
  read: Read,
  shows: (jobId: number) => boolean,
  after: { readonly now: number; readonly intervalMs: number; readonly random: () => number },
): void {
  const { now, intervalMs, random } = after;
  watch.isReading = false;
  watch.readAt = read.beganAt;
  watch.pollAt = now + intervalMs * (1 - SPREAD * random());
  Object.assign(watch, { failures: 0, waitUntil: 0, problem: undefined });
  for (const jobId of watch.awaited.keys()) if (shows(jobId)) watch.awaited.delete(jobId);
  // What a hook told of during this read is for the next one to show.
  if (watch.burst === undefined) planRereads(watch, now);
}

function planRereads(watch: ProjectWatch, now: number): void {
  for (const [jobId, misses] of watch.awaited) {
    const waitMs = REREADS_MS[misses];
    if (waitMs === undefined) {
      watch.awaited.delete(jobId);
      continue;
    }
    watch.awaited.set(jobId, misses + 1);
    watch.rereadAt = Math.min(watch.rereadAt, now + waitMs);
  }
}

/** The read is repeated later, ever more slowly; `limits` say how much so. */
export function failRead(
  watch: ProjectWatch,
  read: Read,
  failure: {
    readonly problem: string | undefined;
    readonly baseMs: number;
    readonly capMs: number;
    readonly atLeastMs: number;
  },
  after: { readonly now: number; readonly random: () => number },
): void {
  watch.isReading = false;
  watch.failures++;
  watch.problem = failure.problem;
  watch.waitUntil = after.now + Math.max(failure.atLeastMs, backoffMs(watch.failures, after.random, failure));
  watch.burst ??= read.burst;
  watch.pollAt = Math.min(watch.pollAt, watch.waitUntil);
}

/** Either a project to be read now, or when to look again at the latest (epoch ms; infinite when nothing is ever due). */
type NextRead = { readonly watch: ProjectWatch } | { readonly nextAt: number };

export function nextRead(
  watches: Iterable<ProjectWatch>,
  pace: Pick<ApiPace, "readyAt">,
  waitUntil: number,
  now: number,
): NextRead {
  let next: ProjectWatch | undefined;
  let firstDueAt = Number.POSITIVE_INFINITY;
  for (const watch of watches) {
    if (watch.isReading) continue;
    firstDueAt = Math.min(firstDueAt, dueAt(watch));
    if (dueAt(watch) <= now && (!next || comesBefore(watch, next, now))) next = watch;
  }
  if (!next) return { nextAt: firstDueAt };
  const readyAt = Math.max(waitUntil, pace.readyAt(urgentAt(next) <= now));
  return readyAt <= now ? { watch: next } : { nextAt: readyAt };
}

/** Those that somebody waits for come first, and among them who has waited longest. */
function comesBefore(one: ProjectWatch, other: ProjectWatch, now: number): boolean {
  const isUrgent = urgentAt(one) <= now;
  if (isUrgent !== urgentAt(other) <= now) return isUrgent;
  return isUrgent ? urgentAt(one) < urgentAt(other) : dueAt(one) < dueAt(other);
}

type Index = Pick<PendingJobIndex, "find" | "wasClaimed">;

/**
 * Has a hook's project read: at once for a job that waits, or may do so, or is believed to; a little later for what concerns nobody
 * who waits. Each job has some four hooks, and the API's rate limit is not to be spent on three of them.
 */
export function noteHook(watch: ProjectWatch, news: ReceivedHook, index: Index, now: number): void {
  const { jobId, status } = news;
  watch.hookedAt = now;
  if (jobId !== null && status !== "pending") watch.awaited.delete(jobId);
  if (isNewlyWaiting(news, index)) requestRead(watch, now, jobId ?? undefined);
  else if (concernsWaiting(news, index)) requestRead(watch, now);
  else requestLaterRead(watch, now);
}

function isNewlyWaiting({ jobId, status }: ReceivedHook, index: Index): boolean {
  return jobId !== null && status === "pending" && !index.wasClaimed(jobId);
}

/** A pipeline at work may have new jobs; a job that is listed and waits no more is not to be waited for; and who knows of the rest. */
function concernsWaiting({ jobId, status }: ReceivedHook, index: Index): boolean {
  if (jobId !== null) return index.find(jobId) !== undefined;
  return status === null || status === "pending" || status === "running";
}
