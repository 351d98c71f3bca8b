/** Which project is read next, and when. Pure. */
import type { ApiPace } from "./api-pace.ts";
import { dueAt, type ProjectWatch, urgentAt } from "./project-watch.ts";

/** Either a project to be read now, or when to look again at the latest (epoch ms; infinite when nothing is ever due). */
export type NextRead = { readonly watch: ProjectWatch } | { readonly nextAt: number };

export function nextRead(
  watches: Iterable<ProjectWatch>,
  pace: Pick<ApiPace, "readyAt">,
  waitUntil: number,
  now: number,
): NextRead {
  let next: ProjectWatch | undefined;
  let firstDueAt = Number.POSITIVE_INFINITY;
  for (const watch of watches) {
    if (watch.isReading) continue;
    firstDueAt = Math.min(firstDueAt, dueAt(watch));
    if (dueAt(watch) <= now && (!next || comesBefore(watch, next, now))) next = watch;
  }
  if (!next) return { nextAt: firstDueAt };
  const readyAt = Math.max(waitUntil, pace.readyAt(urgentAt(next) <= now));
  return readyAt <= now ? { watch: next } : { nextAt: readyAt };
}

/** Those that somebody waits for come first, and among them who has waited longest. */
function comesBefore(one: ProjectWatch, other: ProjectWatch, now: number): boolean {
  const isUrgent = urgentAt(one) <= now;
  if (isUrgent !== urgentAt(other) <= now) return isUrgent;
  return isUrgent ? urgentAt(one) < urgentAt(other) : dueAt(one) < dueAt(other);
}
