/** What a failed read of GitLab's API means: for the project alone, or for all reads. */
import { backoffMs } from "../base/backoff.ts";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { GitLabError } from "../gitlab/errors.ts";

/** What a failed request to GitLab's API says about the next ones. */
interface ReadFailure {
  /** The project is gone or hidden: others can be read. */
  readonly isOfProject: boolean;
  /** It is not there (or no longer visible to this token), rather than forbidden. */
  readonly isGone: boolean;
  /** GitLab asks everybody to wait. */
  readonly isRateLimit: boolean;
  /** It does not pass by itself: the token, a role, the address, the certificate. */
  readonly isLasting: boolean;
  /** What GitLab asks to wait; 0 for nothing. */
  readonly waitMs: number;
}

const aboutProject: readonly string[] = ["gitlab_not_found", "gitlab_forbidden", "gitlab_refused"];

export function readFailure(error: unknown): ReadFailure {
  const known = error instanceof GitLabError ? error : undefined;
  const isOfProject = known !== undefined && aboutProject.includes(known.code);
  return {
    isOfProject,
    isGone: known?.code === "gitlab_not_found",
    isRateLimit: known?.code === "gitlab_rate_limited",
    isLasting: known !== undefined && !known.retryable,
    waitMs: known?.waitMs ?? 0,
  };
}

const sharedPassingBackoff = { baseMs: 500, capMs: 30_000 };
/** Until somebody changes something. */
const sharedLastingBackoff = { baseMs: 500, capMs: 120_000 };

/** Tells a sick project from a sick GitLab: that is one which failed twice in a row, whatever project it was asked for. */
interface SharedReadFailures {
  /** Something could be read. Returns whether this ends a failure of all reads. */
  noteSuccess(): boolean;
  /** Returns whether it is the project's own. */
  noteFailure(failure: ReadFailure, message: string): boolean;
  /** Nothing is to be read before (epoch ms). */
  waitUntil(): number;
  /** Why nothing can be read. */
  problem(): string | undefined;
}

export function createSharedReadFailures(deps: {
  readonly clock: Pick<Clock, "now">;
  readonly random: () => number;
  readonly log: Log;
}): SharedReadFailures {
  const { clock, random, log } = deps;
  let failures = 0;
  let waitUntil = 0;
  let problem: string | undefined;
  return {
    noteSuccess() {
      const wasCommon = problem !== undefined;
      failures = 0;
      waitUntil = 0;
      problem = undefined;
      return wasCommon;
    },
    noteFailure(failure, message) {
      if (failure.isOfProject) return true;
      // Reads that were under way together fail together: that is one failure.
      if (waitUntil <= clock.now()) failures++;
      waitUntil =
        clock.now() +
        backoffMs(failures, random, failure.isLasting ? sharedLastingBackoff : sharedPassingBackoff);
      if (failures < 2) return true;
      if (problem === undefined) log.warn({ problem: message }, "pending jobs cannot be read");
      problem = message;
      return false;
    },
    waitUntil: () => waitUntil,
    problem: () => problem,
  };
}
