import { randomUUID } from "node:crypto";
import pLimit from "p-limit";
import type { Clock } from "../../../../src/base/clock.ts";
import type { Project } from "../model.ts";
import {
  type AlertStatus,
  alertStatus,
  createHookSender,
  type Hook,
  type HookBehaviour,
  type HookEvent,
  hears,
  noteFailure,
  noteSuccess,
  type Receipt,
} from "./hook.ts";

// GitLab has so many workers for its background jobs.
const WORKERS = 50;

/**
 * What happens to the deliveries of a test, asked before each: milliseconds to wait before each copy that is sent. `[0]` is a usual
 * delivery, `[]` loses it, `[0, 50]` doubles it, and different waits change the order.
 */
type Tamper = (message: Pick<HookMessage, "event" | "jobId" | "status">) => readonly number[];

export interface Hooks {
  /** What was sent and what was not, oldest first; the last 50,000. */
  readonly deliveries: readonly HookDelivery[];
  tamper: Tamper;
  all(): readonly Hook[];
  add(hook: Omit<Hook, "id" | "createdAt" | "failures" | "disabledUntil">): Hook;
  remove(id: number): void;
  alertStatus(hook: Hook): AlertStatus;
  /** Tells every hook that hears of it, later and in no order. */
  notify(message: HookMessage): void;
  /** Tells one hook now, even one that is switched off. */
  test(hook: Hook, message: HookMessage): Promise<Receipt>;
  /** Deliveries that wait or are under way. */
  underWay(): number;
  close(): Promise<void>;
}

interface HooksOptions extends DeliveryOptions {
  /** Counts one event of a top-level group; false when it is one too many. */
  allow(group: string): boolean;
}

export function createHooks(options: HooksOptions): Hooks {
  const { clock } = options;
  const deliveries = createHookDeliveries(options);
  const workers = pLimit(WORKERS);
  const closing = new AbortController();
  const all: Hook[] = [];
  let nextId = 1;
  let underWay = 0;

  async function deliverLater(pending: PendingDelivery, waitMs: number): Promise<void> {
    underWay++;
    try {
      // Even without a wait, whatever caused the event is over before anybody hears of it.
      await (waitMs > 0 ? clock.sleep(waitMs, closing.signal) : new Promise(setImmediate));
      await workers(async () => {
        if (!closing.signal.aborted) await deliveries.deliver(pending, false);
      });
    } catch {
      // The stand-in was closed meanwhile.
    } finally {
      underWay--;
    }
  }

  function notifyOne(pending: PendingDelivery): void {
    const root = pending.message.project.path.split("/")[0] ?? "";
    if (!options.allow(root)) {
      deliveries.record(pending, "limited");
      return;
    }
    const waits = own.tamper(pending.message);
    if (waits.length === 0) deliveries.record(pending, "dropped");
    for (const waitMs of waits) void deliverLater(pending, waitMs);
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
    alertStatus: (hook) => alertStatus(hook, clock.now(), options.behaviour()),
    notify(message) {
      const eventUuid = randomUUID();
      for (const hook of all)
        if (hears(hook, message.project, message.event)) notifyOne(pendingDelivery(hook, message, eventUuid));
    },
    test: (hook, message) => deliveries.deliver(pendingDelivery(hook, message), true),
    underWay: () => underWay,
    async close() {
      closing.abort();
      await deliveries.close();
    },
  };
  return own;
}

const MAX_RECORDS = 50_000;

/** Something that happened in a project, for all hooks that hear of it. */
export interface HookMessage {
  readonly event: HookEvent;
  readonly project: Project;
  readonly jobId: number | undefined;
  /** What it tells: the status of the job or the pipeline. */
  readonly status: string;
  readonly payload: Readonly<Record<string, unknown>>;
}

type Outcome = "answered" | "failed" | "disabled" | "limited" | "dropped";

/** One delivery that was made, or was not. */
interface HookDelivery extends Pick<HookMessage, "event" | "jobId" | "status"> {
  /** Epoch ms of its start. */
  readonly at: number;
  readonly hookId: number;
  readonly projectId: number;
  readonly idempotencyKey: string;
  readonly isTest: boolean;
  /** `disabled`: the hook was switched off; `limited`: too many events of its group; `dropped`: by `tamper`. */
  readonly outcome: Outcome;
  readonly statusCode: number | undefined;
  readonly ms: number;
}

/** A message on its way to one hook. */
interface PendingDelivery {
  readonly hook: Hook;
  readonly message: HookMessage;
  readonly body: string;
  /** Stays the same when it is sent again. */
  readonly idempotencyKey: string;
  /** The same for all hooks that hear of one event. */
  readonly eventUuid: string;
}

interface DeliveryOptions {
  readonly clock: Clock;
  behaviour(): HookBehaviour;
  /** The stand-in's own address. */
  url(): string;
}

interface HookDeliveries {
  readonly all: readonly HookDelivery[];
  record(pending: PendingDelivery, outcome: Outcome, more?: Partial<HookDelivery>): void;
  /** One try. A hook that is switched off gets it only when it is a test. */
  deliver(pending: PendingDelivery, isTest: boolean): Promise<Receipt>;
  close(): Promise<void>;
}

function pendingDelivery(
  hook: Hook,
  message: HookMessage,
  eventUuid: string = randomUUID(),
): PendingDelivery {
  return { hook, message, eventUuid, body: JSON.stringify(message.payload), idempotencyKey: randomUUID() };
}

function createHookDeliveries({ clock, behaviour, url }: DeliveryOptions): HookDeliveries {
  const sender = createHookSender();
  const all: HookDelivery[] = [];

  const record: HookDeliveries["record"] = ({ hook, message, idempotencyKey }, outcome, more = {}) => {
    const { event, jobId, status, project } = message;
    const about = { at: clock.now(), hookId: hook.id, projectId: project.id, event, jobId, status };
    all.push({ ...about, idempotencyKey, isTest: false, outcome, statusCode: undefined, ms: 0, ...more });
    if (all.length > MAX_RECORDS) all.shift();
  };

  async function deliver(pending: PendingDelivery, isTest: boolean): Promise<Receipt> {
    const { hook, message } = pending;
    const at = clock.now();
    if (!isTest && alertStatus(hook, at, behaviour()) !== "executable") {
      record(pending, "disabled");
      return { statusCode: undefined, text: "Hook disabled" };
    }
    const sending = { ...pending, event: message.event, timestamp: Math.floor(at / 1_000) };
    const receipt = await sender.send(sending, behaviour(), url());
    const { statusCode } = receipt;
    if (statusCode !== undefined && statusCode >= 200 && statusCode < 400) noteSuccess(hook);
    else noteFailure(hook, clock.now(), behaviour());
    const outcome = statusCode === undefined ? "failed" : "answered";
    record(pending, outcome, { at, isTest, statusCode, ms: clock.now() - at });
    return receipt;
  }

  return { all, record, deliver, close: sender.close };
}
