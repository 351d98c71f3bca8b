import type { Clock } from "../../base/clock.ts";
import { describeError, FireRunnerError } from "../../base/errors.ts";
import { HOUR_MS } from "../../base/units.ts";
import { backoffMs } from "../../gitlab/backoff.ts";
import { GitLabError } from "../../gitlab/errors.ts";

const passingBackoff = { baseMs: 1_000, capMs: 120_000 };
/** Until somebody changes something. */
const lastingBackoff = { baseMs: 15_000, capMs: 300_000 };
const restBackoff = { baseMs: 4_000, capMs: 60_000 };

/** When each kind of work may be tried again, and why it failed. */
export interface Retries {
  /** No try before this (epoch ms); 0 when nothing is in the way. */
  dueAt(work: string): number;
  /** Why the last try failed, in words. */
  problem(work: string): string | undefined;
  /** Answers whether it failed in another way than before. */
  failed(work: string, error: unknown): boolean;
  /** It is not time for it yet, and nothing is wrong. */
  later(work: string): void;
  /** Not before `at` (epoch ms), whatever was before. */
  rest(work: string, at: number): void;
  done(work: string): void;
  /** Whatever was wrong may have been put right; with `prefix` only of the work whose name begins so. */
  pardon(prefix?: string): void;
}

interface Waiting {
  tries: number;
  dueAt: number;
  problem: string | undefined;
}

export function createRetries(clock: Pick<Clock, "now">, random: () => number): Retries {
  const waiting = new Map<string, Waiting>();

  function wait(work: string, problem: string | undefined, waitMs: (tries: number) => number): void {
    const tries = (waiting.get(work)?.tries ?? 0) + 1;
    // What nobody has tried again for so long is not wanted any more.
    for (const [name, { dueAt }] of waiting) if (dueAt < clock.now() - HOUR_MS) waiting.delete(name);
    waiting.set(work, { tries, problem, dueAt: clock.now() + waitMs(tries) });
  }

  return {
    dueAt: (work) => waiting.get(work)?.dueAt ?? 0,
    problem: (work) => waiting.get(work)?.problem,
    failed(work, error) {
      const words = errorInWords(error);
      const isNew = waiting.get(work)?.problem !== words;
      const limits = passes(error) ? passingBackoff : lastingBackoff;
      const askedMs = error instanceof GitLabError ? error.waitMs : 0;
      wait(work, words, (tries) => Math.max(askedMs, backoffMs(tries, random, limits)));
      return isNew;
    },
    later: (work) => wait(work, undefined, (tries) => backoffMs(tries, random, restBackoff)),
    rest: (work, at) => void waiting.set(work, { tries: 0, problem: undefined, dueAt: at }),
    done: (work) => void waiting.delete(work),
    pardon(prefix = "") {
      for (const work of waiting.keys()) if (work.startsWith(prefix)) waiting.delete(work);
    },
  };
}

function passes(error: unknown): boolean {
  return !(error instanceof FireRunnerError) || error.retryable;
}

/** What went wrong and what to do about it, on one line. */
export function errorInWords(error: unknown): string {
  const hint = error instanceof FireRunnerError ? error.hint : undefined;
  return hint === undefined ? describeError(error) : `${describeError(error)}; ${hint}`;
}
