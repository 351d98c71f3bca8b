/** The log of events: by pages, and as it is written. */
import { z } from "zod";
import type { Clock } from "../../base/clock.ts";
import { SECOND_MS } from "../../base/units.ts";
import type { LifecycleEvent } from "../../domain/events.ts";
import { EventList, type EventView } from "../../views/api.ts";
import { HttpError } from "../errors.ts";
import { machineId } from "./parameters.ts";
import type { EventPorts } from "./ports.ts";
import { type Route, route } from "./route.ts";

const PAGE = 500;
/** A reader of the stream that hears nothing cannot tell it from a dead connection. */
const HEARTBEAT_MS = 15 * SECOND_MS;
/** News that come close together are read together. */
const GATHER_MS = 100;
/** Each holds a connection, and asks the store whenever something happens. */
const MOST_STREAMS = 64;

const seq = z.coerce.number().int().min(0);
const EventsQuery = z.object({
  after: seq.default(0).meta({ description: "Only events behind this number." }),
  limit: z.coerce.number().int().min(1).max(1_000).default(100),
  last: z.coerce.number().int().min(1).max(1_000).optional().meta({
    description: "The newest of all, so many; after and limit do not count then.",
  }),
  job: z.coerce.number().int().positive().optional(),
  machine: machineId.optional(),
});
const StreamQuery = z.object({
  after: seq.optional().meta({
    description:
      "Begin behind this number; by default with what happens from now on. Last-Event-ID goes before.",
  }),
});

export const eventRoutes: readonly Route[] = [
  route({
    method: "GET",
    path: "/events",
    role: "viewer",
    summary: "What happened, oldest first, a page at a time.",
    query: EventsQuery,
    answers: EventList,
    async handle({ query: { last, job, machine, ...page } }, { views }) {
      const { after, limit } =
        last === undefined ? page : { after: Math.max(0, (await views.lastEvent()) - last), limit: last };
      return {
        events: await views.events({
          afterSeq: after,
          limit,
          ...(job === undefined ? {} : { jobId: job }),
          ...(machine === undefined ? {} : { machineId: machine }),
        }),
      };
    },
  }),
  route({
    method: "GET",
    path: "/events/stream",
    role: "viewer",
    summary:
      "What happens, as server-sent events: `id` is the event's number, `data` the event. A reader that comes back with Last-Event-ID misses nothing that is still kept; `event: gap` says what is not.",
    query: StreamQuery,
    answers: "text/event-stream",
    async handle({ query: { after }, lastEventId, signal }, { views, ports: { events, clock } }) {
      if (events.streams >= MOST_STREAMS)
        throw new HttpError("too_many", `${MOST_STREAMS} readers follow the events already`, {
          hint: "Close one of them, or ask for /events by pages.",
        });
      const from = lastEventId === undefined ? after : seq.parse(lastEventId);
      const read = (afterSeq: number) => views.events({ afterSeq, limit: PAGE });
      return follow({ from: from ?? (await views.lastEvent()), read, events, clock, signal });
    },
  }),
];

interface Following {
  readonly from: number;
  readonly read: (after: number) => Promise<readonly EventView[]>;
  readonly events: EventPorts;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** Nothing is kept for a slow reader: it is read from the store when it asks for more. */
async function* follow({ from, read, events, clock, signal }: Following): AsyncGenerator<string> {
  let last = from;
  let news = Promise.withResolvers<void>();
  const unfollow = events.follow(() => news.resolve());
  try {
    yield ": connected\n\n";
    while (!signal.aborted) {
      const page = await read(last);
      if (page.length > 0) yield rendered(page, last);
      last = page.at(-1)?.seq ?? last;
      if (page.length === PAGE) continue;
      if (await isHeard(news.promise, clock, signal)) await clock.sleep(GATHER_MS, signal);
      else yield ": nothing new\n\n";
      news = Promise.withResolvers<void>();
    }
  } finally {
    unfollow();
  }
}

/** Numbers have no gaps; what is missing was too old to be kept. */
function rendered(page: readonly EventView[], last: number): string {
  const [{ seq: first } = { seq: last + 1 }] = page;
  const missing = last > 0 && first > last + 1 ? { first: last + 1, last: first - 1 } : undefined;
  const events = page.map((event) => `id: ${event.seq}\ndata: ${JSON.stringify(event)}\n\n`);
  return (missing ? `event: gap\ndata: ${JSON.stringify(missing)}\n\n` : "") + events.join("");
}

/** False when nothing was heard for a while. Rejects when the signal aborts. */
async function isHeard(news: Promise<void>, clock: Clock, signal: AbortSignal): Promise<boolean> {
  const waiting = new AbortController();
  const silence = clock.sleep(HEARTBEAT_MS, AbortSignal.any([signal, waiting.signal]));
  try {
    return await Promise.race([news.then(() => true), silence.then(() => false)]);
  } finally {
    waiting.abort();
  }
}

/** Whoever follows the events, of all servers together. */
export function createEventFeed(
  onEvent: (listener: (event: LifecycleEvent) => void) => () => void,
): EventPorts {
  let streams = 0;
  return {
    get streams() {
      return streams;
    },
    follow(listener) {
      const stop = onEvent(listener);
      streams += 1;
      return () => {
        stop();
        streams -= 1;
      };
    },
  };
}
