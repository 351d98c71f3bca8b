import type { ServerResponse } from "node:http";
import type { Clock } from "../base/clock.ts";
import { type Exchange, reply } from "./exchange.ts";
import type { Guest } from "./guest.ts";

/** How often a guest on another host shows that it lives, whatever its runner does. */
const HEARTBEAT_MS = 20_000;

/**
 * Held until there is something to say, and no longer than its connection. A machine has one that waits: a newer one takes its place, and
 * it is answered with nothing. A guest on another host is answered with nothing now and then: that it asks again shows that it lives,
 * and one that vanished with its host falls silent.
 */
export function awaitCancel({ guest, response }: Exchange, clock: Clock): void {
  if (response.destroyed) return;
  if (guest.isCanceling) {
    tell(response, true);
    return;
  }
  guest.cancelWaiter?.answer(false);
  const waiter = { answer: (isCanceled: boolean) => tell(response, isCanceled) };
  guest.cancelWaiter = waiter;
  const over = new AbortController();
  response.once("close", () => {
    over.abort();
    if (guest.cancelWaiter === waiter) guest.cancelWaiter = undefined;
  });
  if (guest.isRemote) {
    clock.sleep(HEARTBEAT_MS, over.signal).then(
      () => waiter.answer(false),
      () => {},
    );
  }
}

/** GitLab wants the job of this machine canceled. */
export function tellCanceling(guest: Guest | undefined): void {
  if (guest === undefined) return;
  guest.isCanceling = true;
  guest.cancelWaiter?.answer(true);
}

function tell(response: ServerResponse, isCanceled: boolean): void {
  if (isCanceled) reply(response, 200, { "content-type": "text/plain; charset=utf-8" }, "canceled\n");
  else reply(response, 204, {});
}
