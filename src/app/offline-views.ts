import { join } from "node:path";
import { systemClock } from "../base/clock.ts";
import { openStoreReadOnly } from "../store/reads.ts";
import type { Views } from "../views/api.ts";
import { createViews } from "../views/views.ts";
import type { WebhookViews } from "../views/webhook-api.ts";

/** Jobs, machines and runners as the store has them, for when no FireRunner runs. Throws StoreError when there is no store. */
export async function openOfflineViews(
  stateDirectory: string,
): Promise<Views & WebhookViews & { close(): Promise<void> }> {
  const store = await openStoreReadOnly(join(stateDirectory, "firerunner.db"));
  return { ...createViews({ store, now: systemClock.now }), close: () => store.close() };
}
