/**
 * When each runner's jobs are asked for, and how. A poll is one request for a job; a *long poll* is one that GitLab may hold until
 * something happens, a *short poll* is answered at once. The state of a runner says when its next poll is due and how many may be
 * open; `sendDuePolls` sends what is due, the runner that has waited longest first. Pure but for the state that it keeps.
 */
import { backoffMs } from "../base/rates.ts";
import { MINUTE_MS } from "../base/units.ts";
import type { Pool } from "../domain/pool.ts";
import type { JobAnswer } from "../gitlab/runner-api.ts";
import type { ClaimingConfig } from "./config.ts";
import type { Slots } from "./slots.ts";

/** An answer that took longer than this was held back by a long poll. */
const HELD_MS = 500;
/**
 * When GitLab's queue itself was not asked for this long, the next request is not held: a job that became free without
 * changing `last_update` (its first taker failed, a tag was edited) is found too.
 */
const RECHECK_MS = 45_000;
const failureBackoff = { baseMs: 500, capMs: 30_000 };
/** Each unusable answer costs somebody a job. */
const unusableBackoff = { baseMs: 60_000, capMs: 600_000 };
const FATAL_WAIT_MS = 120_000;
/** A job waits and GitLab gives it to nobody, or to somebody else: how seldom it is asked at last. */
const WANTED_INTERVAL_CAP_MS = 15_000;
/** What may be sent at once after a pause, in time of the rate limit. */
const BURST_MS = 2_000;

/** What the claimer knows of one GitLab runner. Times are epoch ms. */
export interface PollState {
  pool: Pool;
  /** The value of `X-GitLab-Last-Update` at which the queue held nothing for us. */
  lastUpdate: string | undefined;
  /** When the queue itself, and not the long poll before it, was last asked. */
  checkedAt: number;
  openPolls: number;
  /** Polls that may be open at one time: doubled by every job, one again after the first empty answer. */
  parallel: number;
  polledAt: number;
  /** No poll before this. */
  waitUntil: number;
  /** No short poll before this. */
  shortPollAt: number;
  /** Up to when the rate limit is used up. */
  spentUntil: number;
  failures: number;
  /** Long polls in a row that came back at once and said nothing. */
  notHeld: number;
  problem: string | undefined;
  fatal: boolean;
  /** Jobs that are known to wait for this runner; undefined where nobody knows, and GitLab has to be asked. */
  wanted: number | undefined;
  /** Short polls in a row that brought nothing although a job was known to wait. */
  emptyShortPolls: number;
}

export interface Poll {
  readonly sentAt: number;
  readonly lastUpdate: string | undefined;
  /** Never held by GitLab; the next short poll has to wait. */
  readonly isShort: boolean;
}

export function newPollState(pool: Pool): PollState {
  return {
    pool,
    lastUpdate: undefined,
    checkedAt: 0,
    openPolls: 0,
    parallel: 1,
    polledAt: 0,
    waitUntil: 0,
    shortPollAt: 0,
    spentUntil: 0,
    failures: 0,
    notHeld: 0,
    problem: undefined,
    fatal: false,
    wanted: undefined,
    emptyShortPolls: 0,
  };
}

/** Notes how many jobs are known to wait for this runner. More of them than before: GitLab is asked at once. */
export function noteWanted(runner: PollState, wanted: number | undefined): void {
  if (wanted !== undefined && wanted > (runner.wanted ?? 0)) {
    runner.shortPollAt = 0;
    runner.emptyShortPolls = 0;
  }
  runner.wanted = wanted;
}

/** Polls that may be open at one time: never more than there are jobs, where their number is known. */
function pollLimit({ parallel, wanted }: PollState): number {
  return Math.min(parallel, wanted ?? parallel);
}

/** Forgets waits: whatever was wrong may have been put right. */
export function clearWaits(runner: PollState): void {
  noteGoodAnswer(runner);
  runner.waitUntil = 0;
  runner.shortPollAt = 0;
  runner.emptyShortPolls = 0;
}

/** From when on another poll may be sent. */
export function pollDueAt(runner: PollState, isShort: boolean): number {
  return Math.max(runner.waitUntil, runner.spentUntil, isShort ? runner.shortPollAt : 0);
}

/** Notes that a poll is being sent, and decides whether GitLab may hold it: only a single one of a runner may be. */
export function beginPoll(runner: PollState, now: number, isShort: boolean, config: ClaimingConfig): Poll {
  const costMs = MINUTE_MS / config.requestsPerMinute;
  runner.spentUntil = Math.max(runner.spentUntil, now - BURST_MS) + costMs;
  const holds = !isShort && runner.openPolls === 0 && now - runner.checkedAt < RECHECK_MS;
  runner.openPolls++;
  runner.polledAt = now;
  return { sentAt: now, lastUpdate: holds ? runner.lastUpdate : undefined, isShort };
}

/** Draws the conclusions from an answer: when to ask next, and with how many polls. */
export function endPoll(runner: PollState, poll: Poll, answer: JobAnswer, context: Context): void {
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

function noteJob(runner: PollState, { now, config }: Context): void {
  noteGoodAnswer(runner);
  runner.parallel = Math.min(runner.parallel * 2, config.parallelPolls);
  runner.checkedAt = now;
  runner.notHeld = 0;
  runner.shortPollAt = 0;
  runner.emptyShortPolls = 0;
}

function noteNothing(
  runner: PollState,
  poll: Poll,
  lastUpdate: string | undefined,
  { now, config }: Context,
): void {
  noteGoodAnswer(runner);
  if (lastUpdate !== undefined) runner.checkedAt = now;
  runner.lastUpdate = lastUpdate ?? runner.lastUpdate;
  if (poll.isShort) runner.shortPollAt = now + shortPollIntervalMs(runner, config);
  const saidNothing = lastUpdate === undefined && now - poll.sentAt < HELD_MS;
  runner.notHeld = saidNothing ? runner.notHeld + 1 : 0;
  // One such answer is how a long poll tells of a change. Two in a row: this GitLab does not hold requests.
  const known = poll.lastUpdate !== undefined && poll.lastUpdate === lastUpdate;
  if (runner.notHeld > 1 || known || runner.lastUpdate === undefined)
    runner.waitUntil = now + config.turnInterval;
}

function shortPollIntervalMs(runner: PollState, { turnInterval }: ClaimingConfig): number {
  if (runner.wanted === undefined) return turnInterval;
  const longest = Math.max(turnInterval, WANTED_INTERVAL_CAP_MS);
  return Math.min(longest, turnInterval * 2 ** Math.min(runner.emptyShortPolls++, 30));
}

function noteGoodAnswer(runner: PollState): void {
  runner.failures = 0;
  runner.problem = undefined;
  runner.fatal = false;
}

function noteFailure(
  runner: PollState,
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

interface PollRound {
  readonly slots: Pick<Slots, "fitsOneOfEach">;
  /** Epoch ms. */
  readonly now: number;
  /** Requests of one runner at one time at most. */
  readonly parallelPolls: number;
  /** Sends one, if a slot can be had. */
  readonly send: (runner: PollState, isShort: boolean) => void;
}

/**
 * Sends what is due for these runners, the one that has waited longest first, and returns when the next one is due (epoch ms). Runners
 * for which no job waits are left out.
 */
export function sendDuePolls(
  healthy: readonly PollState[],
  { slots, now, parallelPolls, send }: PollRound,
): number {
  const able = healthy.filter(({ wanted }) => wanted !== 0);
  const mayHold = mayHoldPolls(healthy, slots);
  const dueAt = (runner: PollState) => pollDueAt(runner, isShortPoll(runner, mayHold));
  const longestWaiting = able.toSorted((a, b) => a.polledAt - b.polledAt);
  // Every runner gets its first poll before any gets its second.
  for (let open = 0; open < parallelPolls; open++) {
    const wanting = longestWaiting.filter((each) => each.openPolls <= open && open < pollLimit(each));
    for (const runner of wanting) if (dueAt(runner) <= now) send(runner, isShortPoll(runner, mayHold));
  }
  return Math.min(...able.map(dueAt).filter((at) => at > now));
}

/** A job that is known of needs no waiting for. */
function isShortPoll({ wanted }: PollState, mayHold: boolean): boolean {
  return wanted !== undefined || !mayHold;
}

/**
 * Whether requests that GitLab holds for most of a minute may keep a slot each. Not when that could keep a job waiting that is
 * known of, or one that may come at any moment for a runner of which none is known now.
 */
function mayHoldPolls(
  healthy: readonly PollState[],
  { fitsOneOfEach }: Pick<Slots, "fitsOneOfEach">,
): boolean {
  if (healthy.every(({ wanted }) => wanted !== undefined)) return true;
  const asked = healthy.filter(({ wanted }) => wanted !== 0).map(({ pool }) => pool);
  const idle = healthy.filter(({ wanted }) => wanted === 0);
  return fitsOneOfEach(asked) && idle.every(({ pool }) => fitsOneOfEach([...asked, pool]));
}
