import { shortToken } from "./keep-job.ts";
import type { PollState } from "./runner-state.ts";
import type { Slots } from "./slots.ts";

/** How a pool's jobs are being asked for. */
export interface ClaimingStatus {
  readonly pool: string;
  /** The beginning of the runner's token. */
  readonly runner: string;
  readonly state: "polling" | "waiting";
  readonly openPolls: number;
  /** Why nothing is asked for now, in words; undefined when polling. */
  readonly reason: string | undefined;
  /** When GitLab is asked again, if that is known (epoch ms). */
  readonly until: number | undefined;
  /** Somebody has to change something. */
  readonly fatal: boolean;
}

/** `hindrance`: why the pool cannot be asked for, whatever is free. */
export function pollingStatus(runner: PollState, hindrance: string | undefined, slots: Slots): ClaimingStatus {
  const { pool, openPolls, problem } = runner;
  const about = { pool: pool.name, runner: shortToken(pool.runnerToken), openPolls };
  const obstacle = openPolls > 0 ? undefined : slots.blocker(pool);
  const idle = runner.wanted === 0 ? "no job with its tags waits in GitLab" : undefined;
  const reason = hindrance ?? problem ?? idle ?? obstacle;
  const failing = hindrance === undefined && problem !== undefined;
  return {
    ...about,
    state: reason === undefined ? "polling" : "waiting",
    reason,
    until: failing ? runner.waitUntil : undefined,
    fatal: failing && runner.fatal,
  };
}
