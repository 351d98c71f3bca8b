/** Sends a poll and sees it through: to a job that is durable, or to one that is ended in GitLab. */
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { Secret } from "../base/secret.ts";
import type { Pool } from "../domain/pool.ts";
import type { JobAnswer, JobPayload, RunnerApi, RunnerInfo } from "../gitlab/runner-api.ts";
import type { Claim, JobStore } from "../store/store.ts";
import { claimOf, rejectUnusable, shortToken, storeClaim } from "./claimed-job.ts";
import type { ClaimingConfig } from "./config.ts";
import { beginPoll, endPoll, type Poll, type PollState } from "./poll-schedule.ts";
import type { Reservation } from "./slots.ts";

export interface PollerOptions {
  readonly api: RunnerApi;
  readonly store: Pick<JobStore, "claim">;
  readonly clock: Clock;
  readonly log: Log;
  /** [0, 1) */
  readonly random: () => number;
  readonly config: ClaimingConfig;
  /** Aborts when the program is told to end. Open polls go on; only retries are cut short. */
  readonly ending: AbortSignal;
  /** A poll has ended and its slot is free, or belongs to a job. */
  readonly onEnd: () => void;
  /** The pool in whose machine a claimed job belongs, where that is not the one that was asked for. */
  readonly assign?: (jobId: number, pool: Pool) => Pool;
  /** The trace that a claimed job belongs to; undefined when it is to have none. */
  readonly trace?: (payload: JobPayload) => Claim["trace"];
  /** GitLab refuses a pool's requests until somebody changes something. */
  readonly onRefused?: (pool: string) => void;
}

/** Sends one poll at a time and sees it through: to a job that is durable, or to one that is ended in GitLab. */
export interface Poller {
  send(runner: PollState, reservation: Reservation, info: RunnerInfo, isShort: boolean): void;
  /** Why a claimed job cannot be stored. While it says something nothing more may be claimed. */
  storeProblem(): string | undefined;
  /** True while GitLab may yet give a job to a request that was sent for this pool. */
  isPolled(pool: string): boolean;
  /** How many polls are open, or have a job that is not settled yet. */
  open(): number;
  /** Resolves when no poll is open and every job was taken or refused. */
  settled(): Promise<void>;
}

export function createPoller(options: PollerOptions): Poller {
  const { api, store, clock, log, random, config, onEnd } = options;
  /** Polls under way, with the names of their pools. */
  const working = new Map<Promise<void>, string>();
  /** Jobs that the store refuses, by id, and why. */
  const unstored = new Map<number, string>();

  function send(runner: PollState, reservation: Reservation, info: RunnerInfo, isShort: boolean): void {
    const poll = beginPoll(runner, clock.now(), isShort, config);
    const work = seeThrough(runner, poll, reservation, info)
      .catch((error: unknown) => log.error({ pool: runner.pool.name, err: error }, "poll failed"))
      .finally(() => {
        working.delete(work);
        onEnd();
      });
    working.set(work, runner.pool.name);
  }

  async function seeThrough(
    runner: PollState,
    poll: Poll,
    reservation: Reservation,
    info: RunnerInfo,
  ): Promise<void> {
    const { pool, problem } = runner;
    const last = poll.lastUpdate === undefined ? {} : { lastUpdate: poll.lastUpdate };
    const answer = await api.requestJob({ token: pool.runnerToken, info, ...last });
    const kept = answer.kind === "job" && (await keep(pool, answer, clock.now() - poll.sentAt));
    if (kept) reservation.handTo(answer.payload.id);
    else reservation.release();
    endPoll(runner, poll, answer, { now: clock.now(), random, config });
    logChange(log, runner, problem);
    onEnd();
    if (answer.kind === "wait" && answer.fatal) options.onRefused?.(pool.name);
    if (answer.kind === "unusable") await rejectUnusable(options, pool, answer);
  }

  async function keep(pool: Pool, answer: JobAnswer & { kind: "job" }, pollMs: number): Promise<boolean> {
    const { payload, raw } = answer;
    const onFailure = (problem: string) => unstored.set(payload.id, problem);
    const { name, size } = options.assign?.(payload.id, pool) ?? pool;
    const claim = claimOf({ ...pool, name, size }, { payload, raw, pollMs, trace: options.trace?.(payload) });
    try {
      return await storeClaim({ ...options, store, onFailure }, claim, new Secret(payload.token));
    } finally {
      unstored.delete(payload.id);
    }
  }

  return {
    send,
    storeProblem: () => unstored.values().next().value,
    isPolled: (pool) => new Set(working.values()).has(pool),
    open: () => working.size,
    async settled() {
      while (working.size > 0) await Promise.all(working.keys());
    },
  };
}

function logChange(log: Log, runner: PollState, problemBefore: string | undefined): void {
  const { pool, problem } = runner;
  if (problem === problemBefore) return;
  const about = { pool: pool.name, runner: shortToken(pool.runnerToken) };
  if (problem === undefined) log.info(about, "GitLab answers job requests again");
  else if (runner.fatal) log.error({ ...about, problem }, "GitLab refuses this runner's job requests");
  else log.warn({ ...about, problem }, "job request failed");
}
