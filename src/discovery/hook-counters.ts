import type { Clock } from "../base/clock.ts";

/** GitLab has some twenty events; the names come from outside. */
const MOST_EVENT_NAMES = 50;

/** What has come since the start of the program. */
export interface WebhookReceiverStatus {
  readonly since: number;
  /** Authentic requests by event, those that came twice included. */
  readonly taken: Readonly<Record<string, number>>;
  readonly duplicates: number;
  /** Those whose body could not be used. */
  readonly unreadable: number;
  /** Epoch ms. */
  readonly lastAt: number | undefined;
}

export function createHookCounters(clock: Pick<Clock, "now">) {
  const since = clock.now();
  const taken = new Map<string, number>();
  let duplicates = 0;
  let unreadable = 0;
  let lastAt: number | undefined;
  return {
    count(event = "(none)") {
      const name = taken.has(event) || taken.size < MOST_EVENT_NAMES ? event : "(others)";
      taken.set(name, (taken.get(name) ?? 0) + 1);
      lastAt = clock.now();
    },
    countDuplicate: () => void duplicates++,
    countUnreadable: () => void unreadable++,
    status: (): WebhookReceiverStatus => ({
      since,
      taken: Object.fromEntries(taken),
      duplicates,
      unreadable,
      lastAt,
    }),
  };
}
