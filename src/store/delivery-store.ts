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
