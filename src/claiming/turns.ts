/** Whose turn it is to ask GitLab, and who may let GitLab hold the request. */
import { pollDueAt, pollLimit, type PollState } from "./runner-state.ts";
import type { Slots } from "./slots.ts";

interface PollRound {
  readonly slots: Pick<Slots, "coverEach">;
  /** Epoch ms. */
  readonly now: number;
  /** Requests of one runner at one time at most. */
  readonly parallelPolls: number;
  /** Sends one, if a slot can be had. */
  readonly send: (runner: PollState, inTurn: boolean) => void;
}

/**
 * Sends what is due for these runners, the one that has waited longest first, and answers when the next one is due. Runners for
 * which no job waits are not asked for.
 */
export function sendDuePolls(healthy: readonly PollState[], { slots, now, parallelPolls, send }: PollRound): number {
  const able = healthy.filter(({ wanted }) => wanted !== 0);
  const mayHold = mayHoldPolls(healthy, slots);
  const dueAt = (runner: PollState) => pollDueAt(runner, isShortPoll(runner, mayHold));
  const longestWaiting = able.toSorted((a, b) => a.polledAt - b.polledAt);
  // Lane by lane, so that every runner has its first poll before any has its second.
  for (let lane = 0; lane < parallelPolls; lane++) {
    const wanting = longestWaiting.filter((each) => each.openPolls <= lane && lane < pollLimit(each));
    for (const runner of wanting) if (dueAt(runner) <= now) send(runner, isShortPoll(runner, mayHold));
  }
  return Math.min(...able.map(dueAt).filter((at) => at > now));
}

/** Asked in turn, a request is answered at once and not held: a job that is known of needs no waiting for. */
function isShortPoll({ wanted }: PollState, mayHold: boolean): boolean {
  return wanted !== undefined || !mayHold;
}

/**
 * Whether requests that GitLab holds for most of a minute may keep a slot each. Not when that could keep a job waiting that is
 * known of, or one that may come at any moment for a runner of which none is known now.
 */
function mayHoldPolls(healthy: readonly PollState[], { fitsOneOfEach }: Pick<Slots, "coverEach">): boolean {
  if (healthy.every(({ wanted }) => wanted !== undefined)) return true;
  const asked = healthy.filter(({ wanted }) => wanted !== 0).map(({ pool }) => pool);
  const resting = healthy.filter(({ wanted }) => wanted === 0);
  return fitsOneOfEach(asked) && resting.every(({ pool }) => fitsOneOfEach([...asked, pool]));
}
