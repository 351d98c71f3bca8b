import type { WebhookConfig } from "../discovery/config.ts";
import type { Route } from "../domain/routing.ts";
import type { ManagedRunner } from "../store/managed-runner.ts";
import type { Store } from "../store/store.ts";
import { RunnerError } from "./errors.ts";
import type { RunnerCreator } from "./runner-creator.ts";
import type { RunnerIndex } from "./runner-index.ts";
import { idleRunners } from "./runner-selection.ts";

export interface LimitParts {
  readonly store: Pick<Store, "retireRunner">;
  readonly config: () => WebhookConfig["runners"];
  readonly book: Pick<RunnerIndex, "refresh" | "rows" | "needs" | "unfinished">;
  readonly making: Pick<RunnerCreator, "make">;
}

/**
 * Makes a runner, unless there are as many as may be: then the one that has been idle for longest goes, and this is thrown. GitLab
 * is not asked for what is known to be too much.
 */
export async function makeWithinLimit(
  { store, config, book, making }: LimitParts,
  route: Route,
  jobId: number | null,
): Promise<ManagedRunner> {
  const { most } = config();
  if (book.rows().length < most) return await making.make(route, jobId);
  const isLeaving = book
    .rows()
    .some(({ state, pool }) => state === "retiring" && book.unfinished(pool) === 0);
  const [spare] = isLeaving ? [] : idleRunners(book).toSorted((a, b) => a.usedAt - b.usedAt);
  if (spare) await store.retireRunner(spare.key, "another set of tags needs its place");
  const hint = spare || isLeaving ? "one of them is making room" : "raise it, if GitLab's plan allows more";
  throw new RunnerError(
    "runner_limit",
    `there are ${most} runners already, as many as webhook.runners.most allows`,
    { hint },
  );
}

/** The same for a job that can only be failed: no runner makes room for it, and the last place is not for it. */
export async function createWithinLimit(
  { config, book, making }: Pick<LimitParts, "config" | "book" | "making">,
  route: Route,
  jobId: number,
): Promise<ManagedRunner> {
  const { most } = config();
  await book.refresh();
  if (book.rows().length + 1 < most) return await making.make(route, jobId);
  throw new RunnerError(
    "runner_limit",
    `there are ${book.rows().length} runners already, and the last of webhook.runners.most (${most}) is kept for jobs that can be served`,
  );
}

/** Costs nothing to run into again, and ends as soon as another runner is gone. */
export function isOwnLimit(error: unknown): boolean {
  return error instanceof RunnerError && error.code === "runner_limit";
}
