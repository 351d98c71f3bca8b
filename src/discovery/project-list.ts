/**
 * Whose pending jobs are looked at: the projects of the group (or the one project, or those the token's user is a member of), those
 * that the configuration names, and those that send webhooks, as far as they belong to what is served.
 */

import { backoffMs } from "../base/backoff.ts";
import type { Clock } from "../base/clock.ts";
import { describeError } from "../base/errors.ts";
import { HOUR_MS } from "../base/units.ts";
import { createWakeLoop } from "../base/wake-loop.ts";
import { readFailure } from "./read-failure.ts";
import { createServedProjects, type ProjectProblem, type ServedProjectsOptions } from "./served-projects.ts";

const REFRESH_MS = HOUR_MS;
const retryBackoff = { baseMs: 5_000, capMs: 600_000 };

export interface ProjectListOptions extends ServedProjectsOptions {
  readonly clock: Clock;
  readonly random: () => number;
}

export interface ProjectList {
  start(): void;
  stop(): Promise<void>;
  /** Asks GitLab again soon. */
  refresh(): void;
  /** GitLab is asked about one: it is not looked at and sends webhooks, or it is, and may be gone. */
  check(projectId: number): void;
  /** Why the list could not be read, in words. */
  problem(): string | undefined;
  problems(): readonly ProjectProblem[];
}

export function createProjectList(options: ProjectListOptions): ProjectList {
  const { clock, log, random } = options;
  const ending = new AbortController();
  const serving = createServedProjects(options, ending.signal);
  const loop = createWakeLoop(clock, look);
  let dueAt = 0;
  let failures = 0;
  let problem: string | undefined;

  async function look(): Promise<number> {
    try {
      if (clock.now() >= dueAt) {
        await serving.refresh();
        dueAt = clock.now() + REFRESH_MS;
      }
      await serving.lookAtStrangers();
      noteGood();
      return dueAt;
    } catch (error) {
      if (ending.signal.aborted) return dueAt;
      return noteFailure(error);
    }
  }

  function noteGood(): void {
    if (problem !== undefined) log.info({}, "GitLab's list of projects can be read again");
    problem = undefined;
    failures = 0;
  }

  function noteFailure(error: unknown): number {
    const words = describeError(error);
    if (words !== problem) log.warn({ problem: words }, "GitLab's list of projects cannot be read");
    problem = words;
    failures++;
    return clock.now() + Math.max(readFailure(error).waitMs, backoffMs(failures, random, retryBackoff));
  }

  return {
    start: loop.start,
    async stop() {
      ending.abort();
      await loop.stop();
    },
    refresh() {
      dueAt = 0;
      loop.wake();
    },
    check(projectId) {
      // While GitLab cannot be asked, what it is asked for waits for its turn.
      if (serving.strangers.add(projectId) && failures === 0) loop.wake();
    },
    problem: () => problem,
    problems: () => [...serving.namedProblems(), ...serving.strangers.problems()],
  };
}
