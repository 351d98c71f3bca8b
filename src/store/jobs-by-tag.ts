/** What the store keeps for jobs by tag, as ports: deliveries of webhooks and the projects they name, and the runners that we make in GitLab. */
import type { Secret } from "../base/secret.ts";
import type { Size } from "../domain/size.ts";
import type { RunnerState } from "../domain/states.ts";

/** One GitLab runner that this installation makes, keeps and deletes. Times are epoch ms. */
export interface ManagedRunner {
  /** Ours, and part of its description in GitLab: `r-` and 8 characters. */
  readonly key: string;
  /** GitLab's id; null until GitLab has answered. */
  readonly gitlabId: number | null;
  readonly state: RunnerState;
  /** The pool whose jobs it claims. */
  readonly pool: string;
  /** Sorted, as spelled; exactly the tags it has in GitLab. */
  readonly tags: readonly string[];
  /** The one job it was made for; null for a runner of all jobs with its tags. */
  readonly jobId: number | null;
  readonly size: Size;
  /** Epoch ms; null when GitLab gave it a token for ever. */
  readonly tokenExpiresAt: number | null;
  readonly createdAt: number;
  readonly activeAt: number | null;
  /** When a job last asked for it or was claimed through it. */
  readonly usedAt: number;
  /** When GitLab last heard its token. */
  readonly verifiedAt: number | null;
  /** Why it is to be deleted; null until `retiring`. */
  readonly reason: string | null;
}

export interface NewRunner {
  readonly key: string;
  readonly pool: string;
  readonly tags: readonly string[];
  readonly jobId: number | null;
  readonly size: Size;
}

/** The rows of our runners. As with all of the store: moves are compare-and-set and return whether they were made. */
export interface RunnerStore {
  /** All that are not gone, oldest first; with `gone` those too, of them the last 100. */
  runners(filter?: { gone?: boolean }): Promise<ManagedRunner[]>;
  /**
   * The token of an active or retiring runner; kept encrypted. Undefined when there is none, as for one that was found
   * unreadable at the start: such a runner is retiring.
   */
  runnerToken(key: string): Promise<Secret | undefined>;
  /** A row in `creating`, flushed before GitLab is asked. False when the key, or the pool among rows not gone, is taken. */
  addRunner(runner: NewRunner): Promise<boolean>;
  /** `creating` → `active` with GitLab's id and token, flushed. */
  activateRunner(
    key: string,
    given: { gitlabId: number; token: Secret; tokenExpiresAt: number | null },
  ): Promise<boolean>;
  /** Another token for an active runner, flushed. */
  replaceRunnerToken(key: string, token: Secret, tokenExpiresAt: number | null): Promise<boolean>;
  /**
   * `creating` or `active` → `retiring`. `gitlabId`: as far as it was found out only now; then a runner without one that is
   * `retiring` already gets it, and the answer is true too.
   */
  retireRunner(key: string, reason: string, gitlabId?: number): Promise<boolean>;
  /** `creating` or `retiring` → `gone`. Erases the token. */
  markRunnerGone(key: string): Promise<boolean>;
  noteRunnerUsed(key: string, at: number): Promise<void>;
  noteRunnerVerified(key: string, at: number): Promise<void>;
}

/** One authentic webhook request, as far as it is remembered. Times are epoch ms. */
export interface Delivery {
  /** What tells it from others: `webhook-id`, else `Idempotency-Key`, else `X-Gitlab-Event-UUID` with what it is about. */
  readonly key: string;
  /** `X-Gitlab-Event`, cut to 64 characters: `Job Hook`, `Pipeline Hook`, or another. */
  readonly event: string;
  readonly projectId: number | null;
  /** The job of a Job Hook. */
  readonly jobId: number | null;
  /** `build_status` or the pipeline's `status`, cut to 32 characters. */
  readonly status: string | null;
  readonly receivedAt: number;
}

/** A project whose pending jobs are looked at. */
export interface KnownProject {
  readonly id: number;
  /** `group/project`, or empty while only its id is known. */
  readonly path: string;
  /** When a hook last told of news there. */
  readonly hookedAt: number | null;
  /** From when on its pending jobs, as last read, are true: the moment at which the reading began. */
  readonly readAt: number | null;
}

/** What the store keeps of webhooks. */
export interface DeliveryStore {
  /**
   * Makes deliveries durable, all in one flushed transaction, and notes on their projects that there is news. Returns for each
   * whether it is new: `false` for one that is known by its key.
   */
  keepDeliveries(deliveries: readonly Omit<Delivery, "receivedAt">[]): Promise<readonly boolean[]>;
  /** Newest first; `since` (epoch ms) and `limit` (default 100) narrow it. */
  deliveries(filter?: { since?: number; limit?: number }): Promise<Delivery[]>;
  /** The last delivery about a job. */
  deliveryOfJob(jobId: number): Promise<Delivery | undefined>;
  /** All of them, by id. */
  projects(): Promise<KnownProject[]>;
  /** Adds projects or corrects their paths. */
  noteProjects(projects: readonly { readonly id: number; readonly path: string }[]): Promise<void>;
  noteProjectRead(id: number, readAt: number): Promise<void>;
  /** It is gone, or no concern of ours any more. */
  forgetProject(id: number): Promise<void>;
}
