import type { Clock } from "../../src/base/clock.ts";
import type { Delivery, DeliveryStore, KnownProject } from "../../src/store/jobs-by-tag.ts";

/** What the store keeps of webhooks, in memory and without a flush: for tests of what stands above it. */
export function someDeliveries(clock: Pick<Clock, "now">): DeliveryStore {
  const rows = new Map<string, Delivery>();
  const projects = new Map<number, KnownProject>();
  const known = (id: number) => projects.get(id) ?? { id, path: "", hookedAt: null, readAt: null };
  return {
    async keepDeliveries(deliveries) {
      return deliveries.map((delivery) => {
        if (rows.has(delivery.key)) return false;
        rows.set(delivery.key, { ...delivery, receivedAt: clock.now() });
        const { projectId: id } = delivery;
        if (id !== null) projects.set(id, { ...known(id), hookedAt: clock.now() });
        return true;
      });
    },
    deliveries: async ({ since = 0, limit = 100 } = {}) =>
      [...rows.values()]
        .filter(({ receivedAt }) => receivedAt >= since)
        .slice(-limit)
        .reverse(),
    deliveryOfJob: async (jobId) => [...rows.values()].findLast((row) => row.jobId === jobId),
    projects: async () => [...projects.values()].toSorted((a, b) => a.id - b.id),
    async noteProjects(all) {
      for (const { id, path } of all) projects.set(id, { ...known(id), path });
    },
    async noteProjectRead(id, readAt) {
      if (projects.has(id)) projects.set(id, { ...known(id), readAt });
    },
    async forgetProject(id) {
      projects.delete(id);
    },
  };
}
