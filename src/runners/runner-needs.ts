import type { PendingJob } from "../discovery/demand.ts";
import type { Route } from "../domain/routing.ts";

/** The jobs that wait with exactly the same tags, and so need the same runner. */
export interface Need {
  /** Of `tagsKey`. */
  readonly key: string;
  readonly route: Route;
  /** Oldest first. */
  readonly jobIds: readonly number[];
}

/** What tells one set of tags from another. */
export function tagsKey(tags: readonly string[]): string {
  return JSON.stringify([...new Set(tags)].toSorted());
}

/** By `tagsKey`, the one with the oldest job first. `pending` is oldest first. */
export function needsOf(pending: readonly PendingJob[]): ReadonlyMap<string, Need> {
  const needs = new Map<string, Need & { jobIds: number[] }>();
  for (const { id, route } of pending) {
    const key = tagsKey(route.tags);
    const need = needs.get(key);
    if (need) need.jobIds.push(id);
    else needs.set(key, { key, route, jobIds: [id] });
  }
  return needs;
}
