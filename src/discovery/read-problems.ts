import { backoffMs } from "../base/backoff.ts";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { ReadFailure } from "./read-failure.ts";

const passingBackoff = { baseMs: 500, capMs: 30_000 };
/** Until somebody changes something. */
const lastingBackoff = { baseMs: 500, capMs: 120_000 };

/** Tells a sick project from a sick GitLab: that is one which failed twice in a row, whatever project it was asked for. */
export interface ReadProblems {
  /** Something could be read. Answers whether this ends a trouble of all projects. */
  end(): boolean;
  /** Answers whether it is the project's own. */
  begin(failure: ReadFailure, words: string): boolean;
  /** Nothing is to be read before (epoch ms). */
  waitUntil(): number;
  /** Why nothing can be read, in words. */
  problem(): string | undefined;
}

export function createReadProblems(deps: {
  readonly clock: Pick<Clock, "now">;
  readonly random: () => number;
  readonly log: Log;
}): ReadProblems {
  const { clock, random, log } = deps;
  let failures = 0;
  let waitUntil = 0;
  let problem: string | undefined;
  return {
    end() {
      const wasCommon = problem !== undefined;
      failures = 0;
      waitUntil = 0;
      problem = undefined;
      return wasCommon;
    },
    begin(failure, words) {
      if (failure.isAboutProject) return true;
      // Reads that were under way together fail together: that is one failure.
      if (waitUntil <= clock.now()) failures++;
      waitUntil =
        clock.now() + backoffMs(failures, random, failure.isLasting ? lastingBackoff : passingBackoff);
      if (failures < 2) return true;
      if (problem === undefined) log.warn({ problem: words }, "pending jobs cannot be read");
      problem = words;
      return false;
    },
    waitUntil: () => waitUntil,
    problem: () => problem,
  };
}
