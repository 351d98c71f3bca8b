import type { Clock } from "../base/clock.ts";

/** One job is asked about at most so often: GitLab allows 200 questions a minute, and the guest needs most of them. */
const GAP_MS = 1_000;

/**
 * Jobs of which somebody says that GitLab has ended them. Nobody is believed: GitLab is asked, at once and not only after the usual
 * interval. What a restart forgets is asked about after that interval.
 */
export interface RecheckQueue {
  add(jobId: number): void;
  /** From when on GitLab may be asked (epoch ms), by job. */
  due(): ReadonlyMap<number, number>;
  /** To be called before GitLab is asked. Call what it returns when GitLab has answered: a request of the meantime stays. */
  begin(jobId: number): () => void;
  /** Keeps those of these jobs only. */
  keep(jobs: ReadonlySet<number>): void;
}

export function createRecheckQueue(clock: Clock): RecheckQueue {
  const dueAt = new Map<number, number>();
  const answeredAt = new Map<number, number>();
  const marks = new Map<number, symbol>();
  return {
    add(jobId) {
      dueAt.set(jobId, Math.max(clock.now(), (answeredAt.get(jobId) ?? 0) + GAP_MS));
      marks.set(jobId, Symbol("recheck"));
    },
    due: () => dueAt,
    begin(jobId) {
      const mark = marks.get(jobId);
      return () => {
        if (mark !== undefined) answeredAt.set(jobId, clock.now());
        if (marks.get(jobId) === mark) dueAt.delete(jobId);
      };
    },
    keep(jobs) {
      for (const known of [dueAt, answeredAt, marks])
        for (const id of known.keys()) if (!jobs.has(id)) known.delete(id);
    },
  };
}
