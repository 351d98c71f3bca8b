import { backoffMs } from "../base/backoff.ts";
import type { Pool } from "../domain/pool.ts";
import type { JobAnswer } from "../gitlab/runner-api.ts";
import type { ClaimingConfig } from "./config.ts";

/** An answer that took longer than this was held back by a long poll. */
const HELD_MS = 500;
/**
 * After this time without a word from GitLab's queue itself, the next request does not wait: a job that became free without
 * changing `last_update` (its first taker failed, a tag was edited) is found too.
 */
const RECHECK_MS = 45_000;
const failureBackoff = { baseMs: 500, capMs: 30_000 };
/** Each unusable answer costs somebody a job. */
const unusableBackoff = { baseMs: 60_000, capMs: 600_000 };
const FATAL_WAIT_MS = 120_000;
/** A job waits and GitLab gives it to nobody, or to somebody else: how seldom it is asked at last. */
const WANTED_TURN_CAP_MS = 15_000;
/** What may be sent at once after a pause, in time of the rate limit. */
const BURST_MS = 2_000;

/** What the claimer knows of one GitLab runner. Times are epoch ms. */
export interface RunnerState {
  pool: Pool;
  /** The value of `X-GitLab-Last-Update` at which the queue held nothing for us. */
  lastUpdate: string | undefined;
  /** When the queue itself, and not the long poll before it, last answered. */
  checkedAt: number;
  openPolls: number;
  /** Polls that may be open at one time: doubled by every job, one again after the first empty answer. */
  parallel: number;
  polledAt: number;
  /** No poll before this. */
  waitUntil: number;
  /** No poll in turn before this. */
  turnAt: number;
  /** Up to when the rate limit is used up. */
  spentUntil: number;
  failures: number;
  /** Long polls in a row that came back at once and said nothing. */
  notHeld: number;
  problem: string | undefined;
  fatal: boolean;
  /** Jobs that are known to wait for this runner; undefined where nobody knows, and GitLab has to be asked. */
  wanted: number | undefined;
  /** Polls in a row that brought nothing although a job was known to wait. */
  emptyTurns: number;
}

export interface Poll {
  readonly sentAt: number;
  readonly lastUpdate: string | undefined;
  /** Asked in turn: the next one has to wait. */
  readonly inTurn: boolean;
}

export function newRunnerState(pool: Pool): RunnerState {
  return {
    pool,
    lastUpdate: undefined,
    checkedAt: 0,
    openPolls: 0,
    parallel: 1,
    polledAt: 0,
    waitUntil: 0,
    turnAt: 0,
    spentUntil: 0,
    failures: 0,
    notHeld: 0,
    problem: undefined,
    fatal: false,
    wanted: undefined,
    emptyTurns: 0,
  };
}

/** Notes how many jobs are known to wait for this runner. More of them than before: GitLab is asked at once. */
export function noteWanted(runner: RunnerState, wanted: number | undefined): void {
  if (wanted !== undefined && wanted > (runner.wanted ?? 0)) {
    runner.turnAt = 0;
    runner.emptyTurns = 0;
  }
  runner.wanted = wanted;
}

/** Polls that may be open at one time: never more than there are jobs, where their number is known. */
export function pollLimit({ parallel, wanted }: RunnerState): number {
  return Math.min(parallel, wanted ?? parallel);
}

/** Forgets waits: whatever was wrong may have been put right. */
export function forgive(runner: RunnerState): void {
  const forgiven = { problem: undefined, fatal: false, failures: 0, waitUntil: 0, turnAt: 0, emptyTurns: 0 };
  Object.assign(runner, forgiven);
}

/** From when on another poll may be sent. */
export function pollDueAt(runner: RunnerState, inTurn: boolean): number {
  return Math.max(runner.waitUntil, runner.spentUntil, inTurn ? runner.turnAt : 0);
}

/** Notes that a poll is being sent, and decides whether GitLab may hold it: only a single one that waits for news may be. */
export function beginPoll(runner: RunnerState, now: number, inTurn: boolean, config: ClaimingConfig): Poll {
  const costMs = 60_000 / config.requestsPerMinute;
  runner.spentUntil = Math.max(runner.spentUntil, now - BURST_MS) + costMs;
  const holds = !inTurn && runner.openPolls === 0 && now - runner.checkedAt < RECHECK_MS;
  runner.openPolls++;
  runner.polledAt = now;
  return { sentAt: now, lastUpdate: holds ? runner.lastUpdate : undefined, inTurn };
}

/** Draws the conclusions from an answer: when to ask next, and with how many polls. */
export function endPoll(runner: RunnerState, poll: Poll, answer: JobAnswer, context: Context): void {
  runner.openPolls--;
  if (answer.kind !== "job") runner.parallel = 1;
  if (answer.kind === "job") noteJob(runner, context);
  else if (answer.kind === "none") noteNothing(runner, poll, answer.lastUpdate, context);
  else noteFailure(runner, answer, context);
}

interface Context {
  readonly now: number;
  readonly random: () => number;
  readonly config: ClaimingConfig;
}

function noteJob(runner: RunnerState, { now, config }: Context): void {
  noteGoodAnswer(runner);
  runner.parallel = Math.min(runner.parallel * 2, config.parallelPolls);
  runner.checkedAt = now;
  runner.notHeld = 0;
  runner.turnAt = 0;
  runner.emptyTurns = 0;
}

function noteNothing(
  runner: RunnerState,
  poll: Poll,
  lastUpdate: string | undefined,
  { now, config }: Context,
): void {
  noteGoodAnswer(runner);
  if (lastUpdate !== undefined) runner.checkedAt = now;
  runner.lastUpdate = lastUpdate ?? runner.lastUpdate;
  if (poll.inTurn) runner.turnAt = now + turnMs(runner, config);
  const saidNothing = lastUpdate === undefined && now - poll.sentAt < HELD_MS;
  runner.notHeld = saidNothing ? runner.notHeld + 1 : 0;
  // One such answer is how a long poll tells of a change. Two in a row: this GitLab does not hold requests.
  const known = poll.lastUpdate !== undefined && poll.lastUpdate === lastUpdate;
  if (runner.notHeld > 1 || known || runner.lastUpdate === undefined)
    runner.waitUntil = now + config.turnInterval;
}

function turnMs(runner: RunnerState, { turnInterval }: ClaimingConfig): number {
  if (runner.wanted === undefined) return turnInterval;
  const longest = Math.max(turnInterval, WANTED_TURN_CAP_MS);
  return Math.min(longest, turnInterval * 2 ** Math.min(runner.emptyTurns++, 30));
}

function noteGoodAnswer(runner: RunnerState): void {
  runner.failures = 0;
  runner.problem = undefined;
  runner.fatal = false;
}

function noteFailure(
  runner: RunnerState,
  answer: Extract<JobAnswer, { kind: "wait" | "unusable" }>,
  { now, random }: Context,
): void {
  // Polls that were open together fail together: that is one failure.
  if (runner.waitUntil <= now) runner.failures++;
  runner.problem = answer.problem;
  runner.fatal = answer.kind === "wait" && answer.fatal;
  const limits = answer.kind === "unusable" ? unusableBackoff : failureBackoff;
  const ownMs = runner.fatal ? FATAL_WAIT_MS : backoffMs(runner.failures, random, limits);
  const askedMs = answer.kind === "wait" ? answer.waitMs : 0;
  runner.waitUntil = Math.max(runner.waitUntil, now + Math.max(askedMs, ownMs));
}
