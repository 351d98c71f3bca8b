import type { DeliveryStore, KnownProject, ManagedRunner, RunnerStore } from "../store/jobs-by-tag.ts";
import type { JobStore } from "../store/store.ts";
import { DeliveryView, RunnerView, type WebhookViews } from "./webhook-api.ts";

/** What of the store these views read. */
export type WebhookReads = Pick<RunnerStore, "runners"> &
  Pick<DeliveryStore, "deliveries" | "projects"> &
  Pick<JobStore, "jobs">;

/** Runners, deliveries and projects as people and programs outside see them. Reads only. */
export function createWebhookViews(store: WebhookReads): WebhookViews {
  return {
    async runners({ gone } = {}) {
      const [runners, unfinished] = await Promise.all([
        store.runners(gone ? { gone } : {}),
        store.jobs({ unfinished: true }),
      ]);
      const inPool = Map.groupBy(unfinished, ({ pool }) => pool);
      return runners.map((runner) => ({
        ...toRunnerView(runner),
        unfinishedJobs: inPool.get(runner.pool)?.length ?? 0,
      }));
    },
    async deliveries({ since, limit } = {}) {
      const filter = { ...(since === undefined ? {} : { since }), ...(limit === undefined ? {} : { limit }) };
      return (await store.deliveries(filter)).map((delivery) => DeliveryView.parse(delivery));
    },
    async projects() {
      const projects = await store.projects();
      return { known: projects.length, due: projects.filter(isDue).length };
    },
  };
}

/** For one that was changed just now: nobody has claimed anything through it meanwhile. */
export function toRunnerView(runner: ManagedRunner): RunnerView {
  return RunnerView.parse({ ...runner, unfinishedJobs: 0 });
}

function isDue({ hookedAt, readAt }: KnownProject): boolean {
  return hookedAt !== null && (readAt === null || hookedAt >= readAt);
}
