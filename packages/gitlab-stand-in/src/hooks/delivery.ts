import { randomUUID } from "node:crypto";
import type { Clock } from "../../../../src/base/clock.ts";
import type { Project } from "../model.ts";
import type { HookBehaviour } from "./behaviour.ts";
import { alertStatus, type Hook, type HookEvent, noteFailure, noteSuccess } from "./hook.ts";
import { createHookSender, type Receipt } from "./sender.ts";

const MAX_RECORDS = 50_000;

/** Something that happened in a project, for all hooks that hear of it. */
export interface HookNews {
  readonly event: HookEvent;
  readonly project: Project;
  readonly jobId: number | undefined;
  /** What it tells: the status of the job or the pipeline. */
  readonly status: string;
  readonly payload: Readonly<Record<string, unknown>>;
}

type Outcome = "answered" | "failed" | "disabled" | "limited" | "dropped";

/** One delivery that was made, or was not. */
export interface HookDelivery extends Pick<HookNews, "event" | "jobId" | "status"> {
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

/** News on its way to one hook. */
export interface Letter {
  readonly hook: Hook;
  readonly news: HookNews;
  readonly body: string;
  /** Stays the same when it is sent again. */
  readonly idempotencyKey: string;
  /** The same for all hooks that hear of one event. */
  readonly eventUuid: string;
}

export interface DeliveryParts {
  readonly clock: Clock;
  behaviour(): HookBehaviour;
  /** The stand-in's own address. */
  url(): string;
}

export interface HookDeliveries {
  readonly all: readonly HookDelivery[];
  record(letter: Letter, outcome: Outcome, more?: Partial<HookDelivery>): void;
  /** One try. A hook that is switched off gets it only when it is a test. */
  deliver(letter: Letter, isTest: boolean): Promise<Receipt>;
  close(): Promise<void>;
}

export function aLetter(hook: Hook, news: HookNews, eventUuid: string = randomUUID()): Letter {
  return { hook, news, eventUuid, body: JSON.stringify(news.payload), idempotencyKey: randomUUID() };
}

export function createHookDeliveries({ clock, behaviour, url }: DeliveryParts): HookDeliveries {
  const sender = createHookSender();
  const all: HookDelivery[] = [];

  const record: HookDeliveries["record"] = ({ hook, news, idempotencyKey }, outcome, more = {}) => {
    const { event, jobId, status, project } = news;
    const about = { at: clock.now(), hookId: hook.id, projectId: project.id, event, jobId, status };
    all.push({ ...about, idempotencyKey, isTest: false, outcome, statusCode: undefined, ms: 0, ...more });
    if (all.length > MAX_RECORDS) all.shift();
  };

  async function deliver(letter: Letter, isTest: boolean): Promise<Receipt> {
    const { hook, news } = letter;
    const at = clock.now();
    if (!isTest && alertStatus(hook, at, behaviour()) !== "executable") {
      record(letter, "disabled");
      return { statusCode: undefined, text: "Hook disabled" };
    }
    const sending = { ...letter, event: news.event, timestamp: Math.floor(at / 1_000) };
    const receipt = await sender.send(sending, behaviour(), url());
    const { statusCode } = receipt;
    if (statusCode !== undefined && statusCode >= 200 && statusCode < 400) noteSuccess(hook);
    else noteFailure(hook, clock.now(), behaviour());
    const outcome = statusCode === undefined ? "failed" : "answered";
    record(letter, outcome, { at, isTest, statusCode, ms: clock.now() - at });
    return receipt;
  }

  return { all, record, deliver, close: sender.close };
}
