import { randomUUID } from "node:crypto";
import pLimit from "p-limit";
import {
  aLetter,
  createHookDeliveries,
  type DeliveryParts,
  type HookDelivery,
  type HookNews,
  type Letter,
} from "./delivery.ts";
import { type AlertStatus, alertStatus, type Hook, hears } from "./hook.ts";
import type { Receipt } from "./sender.ts";

// GitLab has so many workers for its background jobs.
const WORKERS = 50;

/**
 * What happens to the deliveries of a test, asked before each: milliseconds to wait before each copy that is sent. `[0]` is a usual
 * delivery, `[]` loses it, `[0, 50]` doubles it, and different waits change the order.
 */
type Tamper = (news: Pick<HookNews, "event" | "jobId" | "status">) => readonly number[];

export interface Hooks {
  /** What was sent and what was not, oldest first; the last 50,000. */
  readonly deliveries: readonly HookDelivery[];
  tamper: Tamper;
  all(): readonly Hook[];
  add(hook: Omit<Hook, "id" | "createdAt" | "failures" | "disabledUntil">): Hook;
  remove(id: number): void;
  alertStatus(hook: Hook): AlertStatus;
  /** Tells every hook that hears of it, later and in no order. */
  tell(news: HookNews): void;
  /** Tells one hook now, even one that is switched off. */
  test(hook: Hook, news: HookNews): Promise<Receipt>;
  /** Deliveries that wait or are under way. */
  underWay(): number;
  close(): Promise<void>;
}

interface HookParts extends DeliveryParts {
  /** Counts one event of a top-level group; false when it is one too many. */
  allow(group: string): boolean;
}

export function createHooks(parts: HookParts): Hooks {
  const { clock } = parts;
  const deliveries = createHookDeliveries(parts);
  const workers = pLimit(WORKERS);
  const closing = new AbortController();
  const all: Hook[] = [];
  let nextId = 1;
  let underWay = 0;

  async function deliverLater(letter: Letter, waitMs: number): Promise<void> {
    underWay++;
    try {
      // Even without a wait, whatever caused the event is over before anybody hears of it.
      await (waitMs > 0 ? clock.sleep(waitMs, closing.signal) : new Promise(setImmediate));
      await workers(async () => {
        if (!closing.signal.aborted) await deliveries.deliver(letter, false);
      });
    } catch {
      // The stand-in was closed meanwhile.
    } finally {
      underWay--;
    }
  }

  function tellOne(letter: Letter): void {
    const root = letter.news.project.path.split("/")[0] ?? "";
    if (!parts.allow(root)) {
      deliveries.record(letter, "limited");
      return;
    }
    const waits = own.tamper(letter.news);
    if (waits.length === 0) deliveries.record(letter, "dropped");
    for (const waitMs of waits) void deliverLater(letter, waitMs);
  }

  const own: Hooks = {
    deliveries: deliveries.all,
    tamper: () => [0],
    all: () => all,
    add(given) {
      const hook = { ...given, id: nextId++, createdAt: clock.now(), failures: 0, disabledUntil: undefined };
      all.push(hook);
      return hook;
    },
    remove(id) {
      const at = all.findIndex((hook) => hook.id === id);
      if (at >= 0) all.splice(at, 1);
    },
    alertStatus: (hook) => alertStatus(hook, clock.now(), parts.behaviour()),
    tell(news) {
      const eventUuid = randomUUID();
      for (const hook of all)
        if (hears(hook, news.project, news.event)) tellOne(aLetter(hook, news, eventUuid));
    },
    test: (hook, news) => deliveries.deliver(aLetter(hook, news), true),
    underWay: () => underWay,
    async close() {
      closing.abort();
      await deliveries.close();
    },
  };
  return own;
}
