import { join } from "node:path";
import { systemClock } from "../base/clock.ts";
import type { Views } from "../http/api.ts";
import { createViews } from "../http/views.ts";
import type { WebhookViews } from "../http/webhook-api.ts";
import { openStoreReadOnly } from "../store/reads.ts";

/** Jobs, machines and runners as the store has them, for when no FireRunner runs. Throws StoreError when there is no store. */
export async function openOfflineViews(
  stateDirectory: string,
): Promise<Views & WebhookViews & { close(): Promise<void> }> {
  const store = await openStoreReadOnly(join(stateDirectory, "firerunner.db"));
  return { ...createViews({ store, now: systemClock.now }), close: () => store.close() };
}
