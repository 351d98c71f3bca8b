import type { Dispatcher } from "undici";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { formatDuration } from "../base/units.ts";
import { gitLabErrorFrom } from "./errors.ts";
import type { GitLabHttp } from "./http.ts";

/** A cut connection or a hiccup is no outage: nothing but failures for so long, and more than one. */
const AWAY_AFTER_MS = 2_000;
const SAID_EVERY_MS = 60_000;

/** GitLab does not answer, or answers that it cannot. */
export interface Outage {
  /** Epoch ms of the first failure after the last good answer. */
  readonly since: number;
  /** The last failure, in words. */
  readonly problem: string;
}

/** Whether GitLab answers, as heard in whatever is asked of it: polls, reports of running jobs, reads of the API. */
export interface Reach {
  answered(): void;
  failed(problem: string): void;
  /** Undefined while it answers. */
  outage(): Outage | undefined;
}

export function createReach({ clock, log }: { clock: Pick<Clock, "now">; log: Log }): Reach {
  let failures = 0;
  let since = 0;
  let problem = "";
  let isSaid = false;
  let saidAt = Number.NEGATIVE_INFINITY;

  function outage(): Outage | undefined {
    return failures > 1 && clock.now() - since >= AWAY_AFTER_MS ? { since, problem } : undefined;
  }

  return {
    outage,
    answered() {
      if (isSaid) log.info({ forMs: clock.now() - since }, "GitLab answers again");
      isSaid = false;
      failures = 0;
    },
    failed(words) {
      if (failures === 0) since = clock.now();
      failures++;
      problem = words;
      if (!outage() || clock.now() - saidAt < SAID_EVERY_MS) return;
      saidAt = clock.now();
      isSaid = true;
      log.warn({ problem, forMs: saidAt - since, failures }, "GitLab does not answer");
    },
  };
}

/** For people who ask; undefined while GitLab answers. */
export function describeOutage(outage: Outage | undefined, now: number): string | undefined {
  if (outage === undefined) return undefined;
  return `GitLab has not answered for ${formatDuration(Math.max(0, now - outage.since))}: ${outage.problem}`;
}

/** The same client, which tells of every answer and every failure. A request that its sender gave up tells nothing. */
export function watchReach(http: GitLabHttp, reach: Reach): GitLabHttp {
  function watched<Wanted extends Parameters<GitLabHttp["request"]>[0]>(
    send: (wanted: Wanted) => Promise<Dispatcher.ResponseData>,
  ) {
    return async (wanted: Wanted) => {
      try {
        const answer = await send(wanted);
        if (isTrouble(answer.statusCode)) reach.failed(`it answers ${answer.statusCode}`);
        else reach.answered();
        return answer;
      } catch (error) {
        if (!wanted.signal?.aborted) reach.failed(gitLabErrorFrom(error, "asking GitLab").message);
        throw error;
      }
    };
  }
  return { ...http, request: watched(http.request), forward: watched(http.forward) };
}

/** 500 is one broken route; these say that what stands behind is down, overloaded or in maintenance. */
function isTrouble(status: number): boolean {
  return status >= 502 && status <= 504;
}
