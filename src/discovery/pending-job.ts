/** The demand: the jobs that wait in GitLab and could run here, as `runners/` and the lists of waiting jobs see them. */
import type { Route } from "../domain/routing.ts";

/** A job that waits in GitLab and that a machine of ours could run. */
export interface PendingJob {
  readonly id: number;
  readonly projectId: number;
  /** `group/project`. */
  readonly project: string;
  readonly name: string;
  readonly route: Route;
  /** In GitLab; epoch ms. */
  readonly createdAt: number;
  readonly webUrl: string;
}

/** What is known of the jobs that wait in GitLab. Kept in memory: GitLab is asked again after a restart. */
export interface Demand {
  /** Oldest (lowest id) first. */
  pending(): readonly PendingJob[];
  find(jobId: number): PendingJob | undefined;
  /** After any change. Returns the way to stop. */
  onChange(listener: () => void): () => void;
}
