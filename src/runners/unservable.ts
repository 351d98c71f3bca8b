/**
 * With `webhook.unservable: fail`, jobs whose tag asks for a machine that cannot be had are claimed and failed, with the reason in
 * their log. For each a runner is made that has the job's tag alone; GitLab gives it jobs with exactly that tag and no others, so that
 * nobody else's job is ever taken. The claim and the failure are one row, which the scheduler reports; the provisioner deletes the runner.
 * A process that ends anywhere in between leaves a row for each of the two.
 */
import type { Clock } from "../base/clock.ts";
import { pauseUnless } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { Secret } from "../base/secret.ts";
import { MINUTE_MS, SECOND_MS } from "../base/units.ts";
import { createWakeLoop } from "../base/wake-loop.ts";
import { claimOf, rejectUnusable, storeClaim } from "../claiming/claimed-job.ts";
import type { WebhookConfig } from "../discovery/config.ts";
import type { LeftAlone } from "../discovery/pending-job-index.ts";
import type { JobFailure } from "../domain/job-end.ts";
import type { Pool } from "../domain/pool.ts";
import { routeJob, type TagRules } from "../domain/routing.ts";
import type { JobAnswer, JobPayload, RunnerApi, RunnerInfo } from "../gitlab/runner-api.ts";
import type { ManagedRunner } from "../store/jobs-by-tag.ts";
import type { Claim, JobStore } from "../store/store.ts";
import type { RunnerProvisioner } from "./provisioner.ts";
import { createRetries } from "./retries.ts";

/** How often the jobs that are left alone are checked. */
const LOOK_MS = 2 * SECOND_MS;
/** So often a job must have been read as one that cannot be served. A hook may be early, and a reload half read. */
const READS = 2;
/** A mistake in a tag stays one; what hosts can hold may change by itself, as hosts come back. */
const HOSTS_SETTLE_MS = 5 * MINUTE_MS;
const RUNNERS_AT_ONCE = 2;
const PER_PROJECT_AND_MINUTE = 5;
const POLL_MS = 2 * SECOND_MS;
const POLLS = 15;
/** After GitLab gave nothing for a job that is still listed, as with one of an unprotected branch for a protected runner. */
const COOLDOWN_MS = 10 * MINUTE_MS;
const CREATING = "making a runner for a job that cannot be served";

export interface UnservableOptions {
  readonly leftAlone: () => readonly LeftAlone[];
  readonly provisioner: Pick<RunnerProvisioner, "createForUnservable" | "pools" | "assign" | "status">;
  readonly api: Pick<RunnerApi, "requestJob" | "appendTrace" | "updateJob">;
  readonly store: Pick<JobStore, "claim">;
  readonly rules: () => TagRules;
  readonly runnerInfo: (pool: Pool) => RunnerInfo | undefined;
  readonly config: () => WebhookConfig["unservable"];
  /** The trace that a claimed job belongs to; undefined when it is to have none. */
  readonly trace?: ((payload: JobPayload) => Claim["trace"]) | undefined;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
}

export interface Unservable {
  start(): void;
  /** No runner is made and nothing is asked for after this; resolves when what was asked for is in the store. */
  stop(): Promise<void>;
  /** The configuration may have changed, and what was in the way may be gone. */
  wake(): void;
  /** It is being claimed to fail it: the runner made for it must stay. True from before that runner is made. */
  isFailing(jobId: number): boolean;
  /** Why a job waits on although such jobs are failed here; undefined when it is failed soon, or such jobs wait. */
  blocker(job: LeftAlone): string | undefined;
}

export function createUnservable(options: UnservableOptions): Unservable {
  const { provisioner, config, clock, log } = options;
  const ending = new AbortController();
  const deps = { ...options, ending: ending.signal };
  const retries = createRetries({ ...options, isFree: () => false });
  const ripeness = createRipeness(options);
  const limit = createProjectLimit(clock);
  /** By job. */
  const working = new Map<number, Promise<void>>();
  const loop = createWakeLoop(clock, async () => {
    const jobs = config() === "fail" ? options.leftAlone() : [];
    ripeness.observe(jobs);
    for (const job of jobs) if (mayBegin(job)) begin(job);
    return clock.now() + LOOK_MS;
  });

  function mayBegin(job: LeftAlone): boolean {
    const hasPlace =
      working.size < RUNNERS_AT_ONCE && !working.has(job.job.id) && limit.hasPlace(job.projectId);
    return !ending.signal.aborted && hasPlace && cannotBeAlone(job) === undefined && ripeness.isRipe(job);
  }

  function begin(job: LeftAlone): void {
    const { id } = job.job;
    const work = seeThrough(job)
      .catch((error: unknown) =>
        log.error({ jobId: id, err: error }, "a job could not be claimed to fail it"),
      )
      .finally(() => void working.delete(id));
    working.set(id, work);
  }

  async function seeThrough(job: LeftAlone): Promise<void> {
    const { id, tags } = job.job;
    let runner: ManagedRunner | undefined;
    await retries.attempt(CREATING, async () => {
      limit.note(job.projectId);
      runner = await provisioner.createForUnservable({ id, tags });
    });
    if (!runner) return;
    ripeness.coolDown(id);
    await claimThrough(deps, runner, job);
  }

  return {
    start: loop.start,
    async stop() {
      ending.abort();
      retries.end();
      await loop.stop();
      await Promise.all(working.values());
    },
    wake() {
      retries.forgetFailures();
      ripeness.forgetCooldowns();
      loop.wake();
    },
    isFailing: (jobId) => working.has(jobId),
    blocker(job) {
      if (config() !== "fail") return undefined;
      const wasInVain = ripeness.coolsDown(job.job.id) && !working.has(job.job.id);
      return cannotBeAlone(job) ?? retries.problem(CREATING) ?? (wasInVain ? notGiven : undefined);
    },
  };
}

/** Which jobs are sure to be unservable: what is known of those that are listed, and nothing of others. */
function createRipeness({ rules, clock }: Pick<UnservableOptions, "rules" | "clock">) {
  const known = new Map<number, { readonly reason: string; readonly since: number; cooldownUntil: number }>();
  const coolsDown = (jobId: number): boolean => (known.get(jobId)?.cooldownUntil ?? 0) > clock.now();

  return {
    observe(jobs: readonly LeftAlone[]): void {
      const listed = new Set(jobs.map(({ job }) => job.id));
      for (const id of known.keys()) if (!listed.has(id)) known.delete(id);
      for (const { job, reason } of jobs) {
        const before = known.get(job.id);
        if (before?.reason === reason) continue;
        known.set(job.id, { reason, since: clock.now(), cooldownUntil: before?.cooldownUntil ?? 0 });
      }
    },
    isRipe(job: LeftAlone): boolean {
      const { id } = job.job;
      if (job.reads < READS || coolsDown(id) || !isRefused(job, rules())) return false;
      return isMistake(job, rules()) || clock.now() - (known.get(id)?.since ?? 0) >= HOSTS_SETTLE_MS;
    },
    /** GitLab is asked for it now, and not again for a while. */
    coolDown(jobId: number): void {
      const seen = known.get(jobId);
      if (seen) seen.cooldownUntil = clock.now() + COOLDOWN_MS;
    },
    coolsDown,
    forgetCooldowns(): void {
      for (const each of known.values()) each.cooldownUntil = 0;
    },
  };
}

/** When runners were made of late, by project. */
function createProjectLimit(clock: Pick<Clock, "now">) {
  const made = new Map<number, readonly number[]>();
  const lately = (id: number) => (made.get(id) ?? []).filter((at) => clock.now() - at < MINUTE_MS);

  return {
    hasPlace: (projectId: number): boolean => lately(projectId).length < PER_PROJECT_AND_MINUTE,
    note(projectId: number): void {
      for (const id of made.keys()) if (lately(id).length === 0) made.delete(id);
      made.set(projectId, [...lately(projectId), clock.now()]);
    },
  };
}

const notGiven =
  "a runner was made to claim and fail it, and GitLab did not give it the job (webhook.runners.protected?)";

/** Why no runner can be made that is sure to get jobs with the same tags only. */
function cannotBeAlone({ job }: LeftAlone): string | undefined {
  const [tag, ...others] = new Set(job.tags);
  if (tag === undefined || others.length > 0) {
    return "it is not failed because it has several tags: GitLab would give a runner that has them jobs with fewer, which may be other people's";
  }
  const canBeGiven = !tag.includes(",") && tag.trim() === tag;
  return canBeGiven ? undefined : "it is not failed because GitLab cannot give its tag to a runner";
}

function isRefused({ job }: LeftAlone, rules: TagRules): boolean {
  return routeJob(job.tags, rules).kind === "refused";
}

/** Its tag is wrong, whatever hosts there are. */
function isMistake(job: LeftAlone, rules: TagRules): boolean {
  const { hostProblem: _, ...withoutHosts } = rules;
  return isRefused(job, { ...withoutHosts, sizeProblem: () => undefined });
}

type PollDeps = UnservableOptions & { readonly ending: AbortSignal };

/** Asks GitLab now and then, until it has given a job or the job is not to be failed any more. */
async function claimThrough(deps: PollDeps, runner: ManagedRunner, job: LeftAlone): Promise<void> {
  const { clock, ending, provisioner } = deps;
  for (let polls = 0; polls < POLLS && (await isWanted(deps, runner, job)); polls++) {
    const pool = provisioner.pools().get(runner.pool);
    if (pool && (await poll(deps, pool, job.job.tags))) return;
    await pauseUnless(clock, POLL_MS, ending);
  }
}

/** Nobody else has taken it, it was not canceled, nothing that it asks for can be had by now, and the runner is in use. */
async function isWanted(deps: PollDeps, { key }: ManagedRunner, job: LeftAlone): Promise<boolean> {
  const rows = await deps.provisioner.status();
  const isActive = rows.some((row) => row.key === key && row.state === "active");
  const waits = deps.leftAlone().some((each) => each.job.id === job.job.id);
  return (
    isActive && waits && !deps.ending.aborted && deps.config() === "fail" && isRefused(job, deps.rules())
  );
}

/** Asks GitLab once, without waiting there. Returns whether there is nothing more to ask for. */
async function poll(deps: PollDeps, pool: Pool, tags: readonly string[]): Promise<boolean> {
  const info = deps.runnerInfo(pool);
  // GitLab fails a job itself when its runner does not say that it can what the job needs.
  if (!info) return false;
  const sentAt = deps.clock.now();
  const answer = await deps.api.requestJob({ token: pool.runnerToken, info });
  if (answer.kind === "job") return await keep(deps, pool, tags, answer, deps.clock.now() - sentAt);
  if (answer.kind === "unusable") await rejectUnusable(deps, pool, answer);
  return answer.kind === "unusable" || (answer.kind === "wait" && answer.fatal);
}

/** Any job that GitLab gave has exactly these tags. If they can be served by now it is run, as if it was claimed for that. */
async function keep(
  deps: PollDeps,
  pool: Pool,
  tags: readonly string[],
  { payload, raw }: JobAnswer & { kind: "job" },
  pollMs: number,
): Promise<boolean> {
  const { provisioner, log } = deps;
  const answer = { payload, raw, pollMs, trace: deps.trace?.(payload) };
  const routing = routeJob(tags, deps.rules());
  let claim: Claim;
  if (routing.kind === "route") {
    const own = provisioner.assign(payload.id, { ...pool, size: routing.route.size });
    claim = claimOf({ ...pool, name: own.name, size: own.size }, answer);
  } else {
    const reason = routing.kind === "refused" ? routing.reason : "its tag names no machine any more";
    claim = { ...claimOf(pool, answer), failure: failureOf(reason) };
  }
  const onFailure = (problem: string) => log.warn({ jobId: payload.id, problem }, "waiting for the store");
  await storeClaim({ ...deps, onFailure }, claim, new Secret(payload.token));
  return true;
}

function failureOf(reason: string): JobFailure {
  const cure = "give the job another tag, or have whoever runs FireRunner allow such machines";
  return { reason: `${reason}; ${cure}`, cause: "unservable" };
}
