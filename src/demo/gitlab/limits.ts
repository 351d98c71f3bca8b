import type { Clock } from "../../base/clock.ts";

const MINUTE_MS = 60_000;

/** Requests per minute. GitLab's defaults. */
export interface RateLimits {
  readonly jobRequestsPerRunner: number;
  readonly updatesPerJob: number;
  readonly tracesPerJob: number;
  readonly artifactsPerJob: number;
}

export const gitlabRateLimits: RateLimits = {
  jobRequestsPerRunner: 2_000,
  updatesPerJob: 200,
  tracesPerJob: 200,
  artifactsPerJob: 200,
};

export interface RateLimiter {
  /** Counts one request of `key` in the current minute; false when that is one too many. */
  allow(key: string, perMinute: number): boolean;
}

/** Fixed windows of one minute, as GitLab counts. */
export function createRateLimiter(clock: Clock): RateLimiter {
  let window = 0;
  let counts = new Map<string, number>();
  return {
    allow(key, perMinute) {
      const current = Math.floor(clock.now() / MINUTE_MS);
      if (current !== window) {
        window = current;
        counts = new Map();
      }
      const count = (counts.get(key) ?? 0) + 1;
      counts.set(key, count);
      return count <= perMinute;
    },
  };
}
