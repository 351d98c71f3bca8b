import type { Clock } from "../../base/clock.ts";
import { describeError, FireRunnerError } from "../../base/errors.ts";
import type { Log } from "../../base/log.ts";
import { HOUR_MS } from "../../base/units.ts";
import { backoffMs } from "../../gitlab/backoff.ts";
import { GitLabError } from "../../gitlab/errors.ts";

const passingBackoff = { baseMs: 1_000, capMs: 120_000 };
/** Until somebody changes something. */
const lastingBackoff = { baseMs: 15_000, capMs: 300_000 };

/** Work that may fail: what failed rests for a while and is then tried again, for ever. */
export interface Retries {
  /** Does it unless it rests. Never rejects: what goes wrong is remembered, and logged when it is news. */
  attempt(work: string, doIt: () => Promise<unknown>): Promise<"done" | "failed" | "rests">;
  /** Why the last try failed, in words. */
  problem(work: string): string | undefined;
  /** Whatever was wrong may have been put right. */
  pardon(): void;
  /** Nothing is begun any more. */
  end(): void;
}

interface Failure {
  readonly tries: number;
  readonly dueAt: number;
  readonly problem: string;
}

export function createRetries(deps: {
  readonly clock: Pick<Clock, "now">;
  readonly random: () => number;
  readonly log: Log;
}): Retries {
  const { clock, random, log } = deps;
  const failures = new Map<string, Failure>();
  let isEnding = false;

  function note(work: string, error: unknown): void {
    // What nobody has tried again for so long is not wanted any more.
    for (const [name, { dueAt }] of failures) if (dueAt < clock.now() - HOUR_MS) failures.delete(name);
    const before = failures.get(work);
    const problem = errorInWords(error);
    const tries = (before?.tries ?? 0) + 1;
    const limits = passes(error) ? passingBackoff : lastingBackoff;
    const askedMs = error instanceof GitLabError ? error.waitMs : 0;
    const dueAt = clock.now() + Math.max(askedMs, backoffMs(tries, random, limits));
    failures.set(work, { tries, problem, dueAt });
    if (before?.problem !== problem) log.warn({ work, problem }, "work on runners failed");
  }

  return {
    async attempt(work, doIt) {
      if (isEnding || clock.now() < (failures.get(work)?.dueAt ?? 0)) return "rests";
      try {
        await doIt();
        failures.delete(work);
        return "done";
      } catch (error) {
        note(work, error);
        return "failed";
      }
    },
    problem: (work) => failures.get(work)?.problem,
    pardon: () => failures.clear(),
    end() {
      isEnding = true;
    },
  };
}

function passes(error: unknown): boolean {
  return !(error instanceof FireRunnerError) || error.retryable;
}

/** What went wrong and what to do about it, on one line. */
function errorInWords(error: unknown): string {
  const hint = error instanceof FireRunnerError ? error.hint : undefined;
  return hint === undefined ? describeError(error) : `${describeError(error)}; ${hint}`;
}
