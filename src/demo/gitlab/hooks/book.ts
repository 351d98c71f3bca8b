import { randomUUID } from "node:crypto";
import pLimit from "p-limit";
import type { Clock } from "../../../base/clock.ts";
import type { Project } from "../model.ts";
import type { HookBehaviour } from "./behaviour.ts";
import { alertStatus, type Hook, type HookEvent, hears, noteFailure, noteSuccess } from "./hook.ts";
import { createHookSender, type Receipt, type Sending } from "./sender.ts";

const MAX_RECORDS = 50_000;
// GitLab has so many workers for its background jobs.
const WORKERS = 50;

/** Something that happened in a project, for all hooks that hear of it. */
export interface HookNews {
  readonly event: HookEvent;
  readonly project: Project;
  readonly jobId: number | undefined;
  /** What it tells: the status of the job or the pipeline. */
  readonly status: string;
  readonly payload: Readonly<Record<string, unknown>>;
}

/** One delivery that was made, or was not. */
export interface HookDelivery extends Pick<HookNews, "event" | "jobId" | "status"> {
  /** Epoch ms of its start. */
  readonly at: number;
  readonly hookId: number;
  readonly projectId: number;
  readonly idempotencyKey: string;
  readonly isTest: boolean;
  /** `disabled`: the hook was switched off; `limited`: too many events of its group; `dropped`: by `tamper`. */
  readonly outcome: "answered" | "failed" | "disabled" | "limited" | "dropped";
  readonly statusCode: number | undefined;
  readonly ms: number;
}

/**
 * What happens to the deliveries of a test, told before each: milliseconds to wait before each copy that is sent. `[0]` is a usual
 * delivery, `[]` loses it, `[0, 50]` doubles it, and different waits change the order.
 */
export type Tamper = (news: Pick<HookNews, "event" | "jobId" | "status">) => readonly number[];

export interface Hooks {
  readonly deliveries: readonly HookDelivery[];
  tamper: Tamper;
  all(): readonly Hook[];
  add(hook: Omit<Hook, "id" | "createdAt" | "failures" | "disabledUntil">): Hook;
  remove(id: number): void;
  alertStatus(hook: Hook): ReturnType<typeof alertStatus>;
  /** Tells every hook that hears of it, later and in no order. */
  tell(news: HookNews): void;
  /** Tells one hook now, even one that is switched off. */
  test(hook: Hook, news: HookNews): Promise<Receipt>;
  /** Deliveries that wait or are under way. */
  underWay(): number;
  close(): Promise<void>;
}

export interface HookParts {
  readonly clock: Clock;
  behaviour(): HookBehaviour;
  /** Counts one event of a top-level group; false when it is one too many. */
  allow(group: string): boolean;
  /** The stand-in's own address. */
  url(): string;
}

export function createHooks(parts: HookParts): Hooks {
  const { clock } = parts;
  const sender = createHookSender();
  const workers = pLimit(WORKERS);
  const closing = new AbortController();
  const hooks: Hook[] = [];
  const deliveries: HookDelivery[] = [];
  let nextId = 1;
  let underWay = 0;

  function record(delivery: HookDelivery): void {
    deliveries.push(delivery);
    if (deliveries.length > MAX_RECORDS) deliveries.shift();
  }

  function entry(hook: Hook, news: HookNews, key: string, isTest: boolean) {
    const { event, jobId, status, project } = news;
    const at = clock.now();
    const base = { at, hookId: hook.id, projectId: project.id, event, jobId, status };
    return { ...base, idempotencyKey: key, isTest, statusCode: undefined, ms: 0 };
  }

  async function deliver(
    hook: Hook,
    news: HookNews,
    body: string,
    ids: { key: string; event: string },
    isTest = false,
  ): Promise<Receipt> {
    const begun = entry(hook, news, ids.key, isTest);
    if (!isTest && alertStatus(hook, clock.now(), parts.behaviour()) !== "executable") {
      record({ ...begun, outcome: "disabled" });
      return { statusCode: undefined, text: "Hook disabled" };
    }
    const timestamp = Math.floor(clock.now() / 1_000);
    const names = { idempotencyKey: ids.key, eventUuid: ids.event };
    const sending: Sending = { hook, event: news.event, body, timestamp, ...names };
    const receipt = await sender.send(sending, parts.behaviour(), parts.url());
    const { statusCode } = receipt;
    const isGood = statusCode !== undefined && statusCode >= 200 && statusCode < 400;
    if (isGood) noteSuccess(hook);
    else noteFailure(hook, clock.now(), parts.behaviour());
    const outcome = statusCode === undefined ? "failed" : "answered";
    record({ ...begun, outcome, statusCode, ms: clock.now() - begun.at });
    return receipt;
  }

  async function deliverLater(
    waitMs: number,
    hook: Hook,
    news: HookNews,
    body: string,
    ids: { key: string; event: string },
  ): Promise<void> {
    underWay++;
    try {
      // Even without a wait, whatever caused the event is over before anybody hears of it.
      await (waitMs > 0 ? clock.sleep(waitMs, closing.signal) : new Promise(setImmediate));
      await workers(async () => {
        if (!closing.signal.aborted) await deliver(hook, news, body, ids);
      });
    } catch {
      // The stand-in was closed meanwhile.
    } finally {
      underWay--;
    }
  }

  function tellOne(hook: Hook, news: HookNews, body: string, eventUuid: string): void {
    const ids = { key: randomUUID(), event: eventUuid };
    const root = news.project.path.split("/")[0] ?? "";
    if (!parts.allow(root)) return record({ ...entry(hook, news, ids.key, false), outcome: "limited" });
    const waits = own.tamper(news);
    if (waits.length === 0) record({ ...entry(hook, news, ids.key, false), outcome: "dropped" });
    for (const waitMs of waits) void deliverLater(waitMs, hook, news, body, ids);
  }

  const own: Hooks = {
    deliveries,
    tamper: () => [0],
    all: () => hooks,
    add(given) {
      const hook = { ...given, id: nextId++, createdAt: clock.now(), failures: 0, disabledUntil: undefined };
      hooks.push(hook);
      return hook;
    },
    remove(id) {
      const at = hooks.findIndex((hook) => hook.id === id);
      if (at >= 0) hooks.splice(at, 1);
    },
    alertStatus: (hook) => alertStatus(hook, clock.now(), parts.behaviour()),
    tell(news) {
      const body = JSON.stringify(news.payload);
      const eventUuid = randomUUID();
      for (const hook of hooks)
        if (hears(hook, news.project, news.event)) tellOne(hook, news, body, eventUuid);
    },
    test: (hook, news) =>
      deliver(hook, news, JSON.stringify(news.payload), { key: randomUUID(), event: randomUUID() }, true),
    underWay: () => underWay,
    async close() {
      closing.abort();
      await sender.close();
    },
  };
  return own;
}
