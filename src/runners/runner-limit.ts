import type { WebhookConfig } from "../discovery/config.ts";
import type { Route } from "../domain/routing.ts";
import type { ManagedRunner } from "../store/managed-runner.ts";
import type { Store } from "../store/store.ts";
import { RunnerError } from "./errors.ts";
import type { RunnerCreator } from "./runner-creator.ts";
import type { RunnerIndex } from "./runner-index.ts";
import { idleRunners } from "./runner-selection.ts";

export interface LimitDeps {
  readonly store: Pick<Store, "retireRunner">;
  readonly config: () => WebhookConfig["runners"];
  readonly index: Pick<RunnerIndex, "refresh" | "rows" | "needs" | "unfinished">;
  readonly creator: Pick<RunnerCreator, "make">;
}

/**
 * Makes a runner, unless there are as many as may be: then the one that has been idle for longest goes, and this is thrown. GitLab
 * is not asked for what is known to be too much.
 */
export async function createWithinLimit(
  { store, config, index, creator }: LimitDeps,
  route: Route,
  jobId: number | null,
): Promise<ManagedRunner> {
  const { most } = config();
  if (index.rows().length < most) return await creator.create(route, jobId);
  const isLeaving = index
    .rows()
    .some(({ state, pool }) => state === "retiring" && index.unfinished(pool) === 0);
  const [spare] = isLeaving ? [] : idleRunners(index).toSorted((a, b) => a.usedAt - b.usedAt);
  if (spare) await store.retireRunner(spare.key, "another set of tags needs its place");
  const hint = spare || isLeaving ? "one of them is making room" : "raise it, if GitLab's plan allows more";
  throw new RunnerError(
    "runner_limit",
    `there are ${most} runners already, as many as webhook.runners.most allows`,
    { hint },
  );
}

/** The same for a job that can only be failed: no runner makes room for it, and the last place is not for it. */
export async function createBelowLimit(
  { config, index, creator }: Pick<LimitDeps, "config" | "book" | "making">,
  route: Route,
  jobId: number,
): Promise<ManagedRunner> {
  const { most } = config();
  await index.refresh();
  if (index.rows().length + 1 < most) return await creator.create(route, jobId);
  throw new RunnerError(
    "runner_limit",
    `there are ${index.rows().length} runners already, and the last of webhook.runners.most (${most}) is kept for jobs that can be served`,
  );
}

/** Costs nothing to run into again, and ends as soon as another runner is gone. */
export function isOwnLimit(error: unknown): boolean {
  return error instanceof RunnerError && error.code === "runner_limit";
}
