import type { Store } from "../store/store.ts";

/** Known without a look into the store: a list that was read before a claim may still name the job. */
const MOST_REMEMBERED = 10_000;

/** Which jobs were claimed here. GitLab gives a job once, so none of them ever waits again. */
export interface ClaimedJobs {
  /** From memory: of late. */
  hasLately(jobId: number): boolean;
  has(jobId: number): Promise<boolean>;
  close(): void;
}

export function watchClaims(
  store: Pick<Store, "job" | "onEvent">,
  onClaim: (jobId: number) => void,
): ClaimedJobs {
  const lately = new Set<number>();
  const close = store.onEvent(({ kind, jobId }) => {
    if (kind !== "job:claimed" || jobId === null) return;
    lately.add(jobId);
    const [oldest] = lately;
    if (lately.size > MOST_REMEMBERED && oldest !== undefined) lately.delete(oldest);
    onClaim(jobId);
  });
  return {
    hasLately: (jobId) => lately.has(jobId),
    has: async (jobId) => lately.has(jobId) || (await store.job(jobId)) !== undefined,
    close,
  };
}
