/**
 * Behind the webhook listener: reads authentic requests, makes them durable, and reports what is new. Group commit: a flush of the disk
 * takes as long for hundreds of deliveries as for one. What arrives while one batch is being made durable is the next batch. How many
 * wait is bounded by the requests that the public server lets in.
 */
import type { IncomingHttpHeaders } from "node:http";
import type { Clock } from "../base/clock.ts";
import { describeError, FireRunnerError } from "../base/errors.ts";
import { single } from "../base/headers.ts";
import { createSampledLog, type Log } from "../base/log.ts";
import type { Delivery, DeliveryStore } from "../store/jobs-by-tag.ts";
import type { JobStore } from "../store/store.ts";
import { deliveryKey, type HookReading, readHook } from "./hook-payload.ts";

const WARN_EVERY_MS = 10_000;
const LONGEST_EVENT_NAME = 64;
/** GitLab waits for 10 s, and an answer of 503 counts against the hook like none. */
const TRY_FOR_MS = 7_000;
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 1_000;

/** What a webhook has told. Null where it did not say, or could not be read: then it may be about any project. */
export interface ReceivedHook {
  readonly projectId: number | null;
  /** The job of a Job Hook. */
  readonly jobId: number | null;
  /** Of that job, or else of a pipeline. */
  readonly status: string | null;
}

interface WebhookReceiverOptions<Screening> {
  readonly verifier: { screen(headers: IncomingHttpHeaders): Screening };
  readonly store: Pick<DeliveryStore, "keepDeliveries"> & Pick<JobStore, "job">;
  readonly clock: Clock;
  readonly log: Log;
  /** Hears of each new delivery once it is durable. Must not throw. */
  readonly onHook: (news: ReceivedHook) => void;
  /** GitLab says that a job of ours, which has not ended here, was ended there by somebody. It may be wrong or late. */
  readonly onJobEnded: (jobId: number) => void;
}

interface HookRequest {
  readonly headers: IncomingHttpHeaders;
  /** Undefined when it was too long to be kept. */
  readonly body: Buffer | undefined;
}

/** Fits the `WebhookHandler` of `server/`, which says what its two calls promise. */
export interface WebhookReceiver<Screening> {
  screen(headers: IncomingHttpHeaders): Screening;
  take(request: HookRequest): Promise<string>;
  status(): WebhookReceiverStatus;
}

/** Of the other ends GitLab has heard from here, a moment ago: to ask it then would be to ask about what is over. */
const ENDED_BY_OTHERS = "canceled";

export function createWebhookReceiver<Screening>(
  options: WebhookReceiverOptions<Screening>,
): WebhookReceiver<Screening> {
  const { verifier, store, clock, log, onHook, onJobEnded } = options;
  const batch = createDeliveryBatch((deliveries) => store.keepDeliveries(deliveries), clock);
  const leftOut = "more webhook requests could not be read";
  const sampled = createSampledLog({ log, clock, leftOut, windowMs: WARN_EVERY_MS });
  const counters = createHookCounters(clock);

  async function take({ headers, body }: HookRequest): Promise<string> {
    const event = eventOf(headers);
    counters.count(event);
    const reading = readHook(event, body);
    if (reading.kind === "other") return `${event ?? "this event"} is not used here`;
    const news = hookOf(reading);
    if (reading.kind === "unreadable") {
      counters.countUnreadable();
      const { projectId, problem } = reading;
      const fields = { event, bytes: body?.length, projectId, problem };
      sampled.write("warn", "unreadable", fields, "a webhook request cannot be read");
    }
    const key = deliveryKey(headers, body, describeHook(news));
    const isNew = key === undefined || (await keep({ key, event: event ?? reading.kind, ...news }));
    if (!isNew) {
      counters.countDuplicate();
      return "known already";
    }
    onHook(news);
    tellEnd(news);
    return responseText(reading, news);
  }

  /** While the database is busy or the disk full GitLab waits rather than being told of it. True when the delivery is new. */
  async function keep(delivery: NewDelivery): Promise<boolean> {
    const until = clock.now() + TRY_FOR_MS;
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
      try {
        return await batch.add(delivery);
      } catch (error) {
        const isWorthIt = error instanceof FireRunnerError && error.retryable;
        if (!isWorthIt || clock.now() + pauseMs > until) throw error;
        await clock.sleep(pauseMs);
      }
    }
  }

  /** After the answer: who waits for it is not concerned. */
  function tellEnd({ jobId, status }: ReceivedHook): void {
    if (jobId === null || status !== ENDED_BY_OTHERS) return;
    store.job(jobId).then(
      (job) => {
        if (job && job.state !== "finished") onJobEnded(jobId);
      },
      (error: unknown) => log.warn({ jobId, err: describeError(error) }, "a job could not be looked up"),
    );
  }

  return { screen: (headers) => verifier.screen(headers), take, status: counters.status };
}

function eventOf(headers: IncomingHttpHeaders): string | undefined {
  const event = single(headers["x-gitlab-event"]);
  return event?.slice(0, LONGEST_EVENT_NAME).replaceAll(/[^\x20-\x7e]/g, "?");
}

function hookOf(reading: Exclude<HookReading, { kind: "other" }>): ReceivedHook {
  if (reading.kind === "unreadable") return { projectId: reading.projectId, jobId: null, status: null };
  const { projectId, jobId, status } = reading;
  return { projectId, jobId, status };
}

function responseText(reading: HookReading, news: ReceivedHook): string {
  if (reading.kind === "unreadable") return `taken, but not understood: ${reading.problem}`;
  return `taken: ${describeHook(news)}`;
}

function describeHook({ projectId, jobId, status }: ReceivedHook): string {
  const subject = jobId === null ? "pipeline" : `job ${jobId}`;
  return `${subject} of project ${projectId ?? "unknown"} ${status ?? ""}`.trimEnd();
}

/** GitLab has some twenty events; the names come from outside. */
const MOST_EVENT_NAMES = 50;

/** What has come since the start of the program. */
interface WebhookReceiverStatus {
  readonly since: number;
  /** Authentic requests by event, those that came twice included. */
  readonly taken: Readonly<Record<string, number>>;
  readonly duplicates: number;
  /** Those whose body could not be used. */
  readonly unreadable: number;
  /** Epoch ms. */
  readonly lastAt: number | undefined;
}

function createHookCounters(clock: Pick<Clock, "now">) {
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

/** So that nobody waits long for the transaction of one batch. */
const MOST_ROWS = 500;
/**
 * From the beginning of one batch to that of the next, while deliveries keep coming: a batch of thirty costs the program only
 * twice what one of three does.
 */
const PACE_MS = 5;

export type NewDelivery = Omit<Delivery, "receivedAt">;

interface DeliveryBatch {
  /** Resolves once it is durable: true when it is new, false when it was known by its key. Rejects when its batch failed. */
  add(delivery: NewDelivery): Promise<boolean>;
}

interface Waiting {
  readonly delivery: NewDelivery;
  readonly resolve: (isNew: boolean) => void;
  readonly reject: (error: unknown) => void;
}

export function createDeliveryBatch(
  keep: (deliveries: readonly NewDelivery[]) => Promise<readonly boolean[]>,
  clock: Pick<Clock, "sleep">,
): DeliveryBatch {
  const queue: Waiting[] = [];
  let isCommitting = false;

  async function commitAll(): Promise<void> {
    isCommitting = true;
    // Whatever arrived with this one shares its flush.
    await Promise.resolve();
    while (queue.length > 0) {
      const paced = clock.sleep(PACE_MS);
      const left = await commit(queue.splice(0, MOST_ROWS));
      if (left > 0 && left < MOST_ROWS) await paced;
    }
    isCommitting = false;
  }

  /** Returns how many have come meanwhile. */
  async function commit(batch: readonly Waiting[]): Promise<number> {
    let left = 0;
    try {
      const areNew = await keep(batch.map(({ delivery }) => delivery));
      left = queue.length;
      for (const [index, { resolve }] of batch.entries()) resolve(areNew[index] ?? false);
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
    return left;
  }

  return {
    add: (delivery) =>
      new Promise((resolve, reject) => {
        queue.push({ delivery, resolve, reject });
        if (!isCommitting) void commitAll();
      }),
  };
}
