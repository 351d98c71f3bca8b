import type { PendingJobIndex } from "./pending-job-index.ts";
import { callAtOnce, callSoon, type ProjectWatch } from "./project-watch.ts";
import type { ReceivedHook } from "./webhook-receiver.ts";

type Book = Pick<PendingJobIndex, "find" | "wasClaimed">;

/**
 * Has a hook's project read: at once for a job that waits, or may do so, or is believed to; a little later for what concerns nobody
 * who waits. Each job has some four hooks, and the API's rate limit is not to be spent on three of them.
 */
export function callForRead(watch: ProjectWatch, news: ReceivedHook, book: Book, now: number): void {
  const { jobId, status } = news;
  watch.hookedAt = now;
  if (jobId !== null && status !== "pending") watch.awaited.delete(jobId);
  if (isNewlyWaiting(news, book)) callAtOnce(watch, now, jobId ?? undefined);
  else if (concernsWaiting(news, book)) callAtOnce(watch, now);
  else callSoon(watch, now);
}

function isNewlyWaiting({ jobId, status }: ReceivedHook, book: Book): boolean {
  return jobId !== null && status === "pending" && !book.wasClaimed(jobId);
}

/** A pipeline at work may have new jobs; a job that is listed and waits no more is not to be waited for; and who knows of the rest. */
function concernsWaiting({ jobId, status }: ReceivedHook, book: Book): boolean {
  if (jobId !== null) return book.find(jobId) !== undefined;
  return status === null || status === "pending" || status === "running";
}
