/** The server that keeps caches of jobs, where there is one: a wrong key would be found by jobs alone, whose logs say no more than that a cache failed. */
import { systemClock } from "../../base/clock.ts";
import { withDeadline } from "../../base/deadline.ts";
import { openCacheStorage } from "../../cache/open-storage.ts";
import type { Config } from "../../config/load.ts";
import { answer, type DoctorCheck, type Finding } from "./findings.ts";

type Wanted = Pick<Config, "cache" | "cacheAccess" | "state" | "proxy" | "gitlab">;

const LIMIT_MS = 10_000;
/** Of no project, so that there is never one. */
const NOTHING = { projectId: 0, realm: "protected", digest: "0".repeat(64) } as const;

export function cacheChecks(config: Wanted): DoctorCheck[] {
  if (!config.cache.enabled || config.cache.s3 === undefined) return [];
  return [{ name: "caches of jobs", run: answer(async (signal) => await askServer(config, signal)) }];
}

/** Looks for a cache and lists them, which is what jobs and `cache prune` need; nothing is written. Throws CacheError. */
async function askServer(config: Wanted, signal: AbortSignal): Promise<Finding> {
  const { cache, cacheAccess: access, state, proxy: proxies, gitlab } = config;
  const where = { cache, state, access, proxies, gitlabUrl: gitlab.url, clock: systemClock };
  const storage = await openCacheStorage(where);
  try {
    await withDeadline(systemClock, { limitMs: LIMIT_MS, parent: signal }, async (either) => {
      await storage.find(NOTHING, either);
      await storage.list({ projectId: NOTHING.projectId }, either);
    });
    return {
      level: "ok",
      message: `${cache.s3?.endpoint} lets FireRunner read and list the bucket ${cache.s3?.bucket}`,
    };
  } finally {
    await storage.close();
  }
}
