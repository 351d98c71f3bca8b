import { Secret } from "../../src/base/secret.ts";
import type { RunnerState } from "../../src/domain/states.ts";
import type { ManagedRunner, NewRunner, RunnerStore } from "../../src/store/jobs-by-tag.ts";
import { someTime } from "./job.ts";
import { aSize } from "./size.ts";

const active: Partial<ManagedRunner> = { gitlabId: 81, activeAt: someTime + 500 };
const retiring: Partial<ManagedRunner> = { ...active, reason: "no job has asked for it" };

/** What a runner's row says by virtue of its state. */
const byState: Record<RunnerState, Partial<ManagedRunner>> = {
  creating: {},
  active,
  retiring,
  gone: retiring,
};

/** A row that makes sense for its state (`active` unless said). */
export function aManagedRunner(overrides: Partial<ManagedRunner> = {}): ManagedRunner {
  const state = overrides.state ?? "active";
  return {
    ...aNewRunner(),
    gitlabId: null,
    state,
    tokenExpiresAt: null,
    createdAt: someTime,
    activeAt: null,
    usedAt: someTime,
    verifiedAt: null,
    reason: null,
    ...byState[state],
    ...overrides,
  };
}

/** A runner about to be made in GitLab; its pool is that of its tags. */
export function aNewRunner(overrides: Partial<NewRunner> = {}): NewRunner {
  const tags = overrides.tags ?? ["firecracker-1cpu-1gb"];
  return {
    key: "r-aaaaaaaa",
    pool: `tags:${tags.join(",")}`,
    tags,
    jobId: null,
    size: aSize(),
    ...overrides,
  };
}

/** What GitLab answers to the making of a runner. */
export function aGivenRunner(
  overrides: Partial<Parameters<RunnerStore["activateRunner"]>[1]> = {},
): Parameters<RunnerStore["activateRunner"]>[1] {
  return { gitlabId: 81, token: new Secret("glrt-token-of-the-runner"), tokenExpiresAt: null, ...overrides };
}
