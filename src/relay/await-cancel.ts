import type { ServerResponse } from "node:http";
import type { Clock } from "../base/clock.ts";
import { type Exchange, reply } from "./exchange.ts";

/** How often a guest on another host shows that it lives, whatever its runner does. */
const HEARTBEAT_MS = 20_000;

/**
 * Held until there is something to say; the door's closing ends the connection. A guest on another host is answered with nothing now
 * and then: that it asks again shows that it lives, and one that vanished with its host falls silent.
 */
export async function awaitCancel({ guest, response }: Exchange, clock: Clock): Promise<void> {
  const canceled = guest.canceling.promise.then(() => true);
  const isCanceled = guest.isRemote
    ? await Promise.race([canceled, heartbeat(response, clock)])
    : await canceled;
  if (response.destroyed) return;
  if (!isCanceled) return reply(response, 204, {});
  reply(response, 200, { "content-type": "text/plain; charset=utf-8" }, "canceled\n");
}

async function heartbeat(response: ServerResponse, clock: Clock): Promise<false> {
  const over = new AbortController();
  response.once("close", () => over.abort());
  await clock.sleep(HEARTBEAT_MS, over.signal).catch(() => {});
  return false;
}
