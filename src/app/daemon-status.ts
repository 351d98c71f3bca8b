import { systemClock } from "../base/clock.ts";
import type { Config } from "../config/load.ts";
import type { DaemonStatus } from "../http/api.ts";
import { hindrancesOf } from "../scheduler/explain.ts";
import type { Rooms } from "./rooms.ts";

/** What the rooms say of themselves, in the words of the control interface. */
export function describeDaemon(
  { scheduler, claimer }: Pick<Rooms, "scheduler" | "claimer">,
  config: Config,
  about: { version: string; startedAt: number },
): DaemonStatus {
  const { mode, hosts, pools, work } = scheduler.status();
  const claiming = new Map(claimer.status().map((each) => [each.pool, each.reason ?? each.state]));
  return {
    ...about,
    pid: process.pid,
    mode,
    configFile: config.file ?? null,
    stateDirectory: config.state,
    gitlabUrl: config.gitlab.url,
    pools: pools.flatMap(({ pool: name, ok, problems, accelerator }) => {
      const pool = config.pools.get(name);
      if (!pool) return [];
      return {
        name,
        ok,
        problems: problems.map(({ problem, hint }) => ({ problem, hint: hint ?? null })),
        accelerator: accelerator ?? null,
        driver: pool.driver,
        image: pool.image,
        size: pool.size,
        limit: pool.concurrency,
        claiming: claiming.get(name) ?? "not started",
      };
    }),
    hosts: hosts.map(({ driver, host, taken, capacity, problem }) => ({
      driver,
      host,
      taken,
      capacity: capacity ?? null,
      problem: problem ?? null,
    })),
    troubles: work.flatMap(({ name, resting }) => (resting ? [`${name}: ${resting.error}`] : [])),
  };
}

/** What the store cannot know of an unfinished job: what is in its way just now. */
export async function explainWait(
  { store, scheduler }: Pick<Rooms, "store" | "scheduler">,
  jobId: number,
): Promise<readonly string[]> {
  const job = await store.job(jobId);
  return job ? hindrancesOf(job, scheduler.status(), systemClock.now()) : [];
}
