import type { Clock } from "../base/clock.ts";
import { describeWithHint, FireRunnerError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { backoffMs } from "../base/rates.ts";
import { HOUR_MS } from "../base/units.ts";
import { GitLabError } from "../gitlab/errors.ts";

const passingBackoff = { baseMs: 1_000, capMs: 120_000 };
/** Until somebody changes something. */
const lastingBackoff = { baseMs: 15_000, capMs: 300_000 };

/** Work that may fail: what failed cools down for a while and is then tried again, for ever. */
export interface Retries {
  /** Does it unless it cools down. Never rejects: what goes wrong is remembered, and logged when it is news. */
  attempt(work: string, doIt: () => Promise<unknown>): Promise<"done" | "failed" | "cooling-down">;
  /** Why the last try failed. */
  problem(work: string): string | undefined;
  /** What the last try failed with; undefined when it went well. */
  error(work: string): unknown;
  /** Whatever was wrong may have been put right. */
  forgetFailures(): void;
  /** Nothing is begun any more. */
  end(): void;
}

interface Failure {
  readonly tries: number;
  readonly dueAt: number;
  readonly problem: string;
  readonly error: unknown;
}

export function createRetries(deps: {
  readonly clock: Pick<Clock, "now">;
  readonly random: () => number;
  readonly log: Log;
  /** Whether it costs nothing to run into this again: it has no cooldown. */
  readonly isFree: (error: unknown) => boolean;
}): Retries {
  const { clock, random, log, isFree } = deps;
  const failures = new Map<string, Failure>();
  let isEnding = false;

  function note(work: string, error: unknown): void {
    // What nobody has tried again for so long is not wanted any more.
    for (const [name, { dueAt }] of failures) if (dueAt < clock.now() - HOUR_MS) failures.delete(name);
    const before = failures.get(work);
    const problem = describeWithHint(error);
    const tries = (before?.tries ?? 0) + 1;
    const cooldownMs = isFree(error) ? 0 : cooldownOf(error, tries, random);
    failures.set(work, { tries, problem, error, dueAt: clock.now() + cooldownMs });
    if (before?.problem !== problem) log.warn({ work, problem }, "work on runners failed");
  }

  return {
    async attempt(work, doIt) {
      if (isEnding || clock.now() < (failures.get(work)?.dueAt ?? 0)) return "cooling-down";
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
    error: (work) => failures.get(work)?.error,
    forgetFailures: () => failures.clear(),
    end() {
      isEnding = true;
    },
  };
}

function cooldownOf(error: unknown, tries: number, random: () => number): number {
  const limits = isPassing(error) ? passingBackoff : lastingBackoff;
  const askedMs = error instanceof GitLabError ? error.waitMs : 0;
  return Math.max(askedMs, backoffMs(tries, random, limits));
}

function isPassing(error: unknown): boolean {
  return !(error instanceof FireRunnerError) || error.retryable;
}
