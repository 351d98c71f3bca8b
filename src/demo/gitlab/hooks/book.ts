/** Webhooks as GitLab keeps and sends them: facts on signatures, limits and switching off are GitLab 19's. */
import { createHmac, randomUUID } from "node:crypto";
import { request } from "undici";
import type { Clock } from "../../../base/clock.ts";
import { isWithin } from "../groups.ts";
import type { Job, Project } from "../model.ts";
import type { HookBehaviour } from "./behaviour.ts";
import { jobHookPayload } from "./job-payload.ts";

/** Failures in a row that GitLab puts up with before it switches a hook off for a while, and for good. */
const FREE_FAILURES = 3;
const LAST_FAILURE = 40;
const FIRST_PAUSE_MS = 60_000;
const LONGEST_PAUSE_MS = 24 * 3_600_000;
/** What becomes of a job without GitLab telling it: see `when it fires` in GitLab's own code. */
const toldStatuses: readonly string[] = ["created", "pending", "running", "success", "failed", "canceled"];

export interface Hook {
  readonly id: number;
  /** Group or project, with what lies below. */
  readonly path: string;
  url: string;
  token: string | undefined;
  signingToken: string | undefined;
  jobEvents: boolean;
  pipelineEvents: boolean;
  pushEvents: boolean;
  sslVerification: boolean;
  failures: number;
  disabledUntil: number | undefined;
}

export interface HookDelivery {
  readonly hookId: number;
  readonly event: string;
  readonly jobId: number | undefined;
  /** 0: no answer. */
  readonly status: number;
  readonly ms: number;
}

export type HookSettings = Partial<Omit<Hook, "id" | "path" | "failures" | "disabledUntil">>;

export interface Hooks {
  readonly deliveries: readonly HookDelivery[];
  all(): readonly Hook[];
  add(path: string, settings: HookSettings & { readonly url: string }): Hook;
  remove(hook: Hook): void;
  alertStatus(hook: Hook): "executable" | "temporarily_disabled" | "disabled";
  /** Sends one now, whatever the hook's state; resolves with the receiver's status. */
  test(hook: Hook, project: Project, job: Job): Promise<number>;
  /** A job has come to another status: tells every hook above it, one after the other or all at once. */
  tell(job: Job): void;
}

export function createHooks(clock: Clock, behaviour: () => HookBehaviour, url: () => string): Hooks {
  const all: Hook[] = [];
  const deliveries: HookDelivery[] = [];
  let lastId = 0;

  function alertStatus({ failures, disabledUntil }: Hook): ReturnType<Hooks["alertStatus"]> {
    if (failures >= LAST_FAILURE) return "disabled";
    return disabledUntil !== undefined && disabledUntil > clock.now() ? "temporarily_disabled" : "executable";
  }

  async function send(hook: Hook, job: Job): Promise<number> {
    const startedAt = clock.now();
    const body = JSON.stringify(jobHookPayload(job, url()));
    const status = await post(hook, body, behaviour()).catch(() => 0);
    deliveries.push({
      hookId: hook.id,
      event: "Job Hook",
      jobId: job.id,
      status,
      ms: clock.now() - startedAt,
    });
    note(hook, status >= 200 && status < 400);
    return status;
  }

  function note(hook: Hook, isGood: boolean): void {
    hook.failures = isGood ? 0 : hook.failures + 1;
    hook.disabledUntil = undefined;
    if (!behaviour().autoDisable || hook.failures <= FREE_FAILURES) return;
    const pauseMs = FIRST_PAUSE_MS * 2 ** (hook.failures - FREE_FAILURES - 1);
    hook.disabledUntil = clock.now() + Math.min(pauseMs, LONGEST_PAUSE_MS);
  }

  return {
    deliveries,
    all: () => all,
    add(path, settings) {
      const defaults = { token: undefined, signingToken: undefined, jobEvents: false, pipelineEvents: false };
      const state = { pushEvents: true, sslVerification: true, failures: 0, disabledUntil: undefined };
      const hook: Hook = { id: ++lastId, path, ...defaults, ...state, ...settings };
      all.push(hook);
      return hook;
    },
    remove: (hook) => void all.splice(all.indexOf(hook), 1),
    alertStatus,
    test: (hook, _project, job) => send(hook, job),
    tell(job) {
      if (!toldStatuses.includes(job.status)) return;
      for (const hook of all) {
        const isOver =
          hook.jobEvents && isAbove(hook, job.project.path) && alertStatus(hook) === "executable";
        if (isOver) void send(hook, job);
      }
    },
  };
}

function isAbove({ path }: Hook, project: string): boolean {
  return path === project || isWithin(project, path);
}

async function post(hook: Hook, body: string, { version, timeoutMs }: HookBehaviour): Promise<number> {
  const id = randomUUID();
  const signs = Number.parseInt(version, 10) >= 19;
  const timestamp = Math.floor(Date.now() / 1_000);
  const { statusCode, body: answer } = await request(hook.url, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      "user-agent": `GitLab/${version}`,
      "idempotency-key": id,
      "x-gitlab-event": "Job Hook",
      "x-gitlab-webhook-uuid": randomUUID(),
      "x-gitlab-event-uuid": randomUUID(),
      ...(hook.token === undefined ? {} : { "x-gitlab-token": hook.token }),
      ...(signs ? { "webhook-id": id, "webhook-timestamp": String(timestamp) } : {}),
      ...(signs && hook.signingToken
        ? { "webhook-signature": sign(hook.signingToken, id, timestamp, body) }
        : {}),
    },
    body,
    signal: AbortSignal.timeout(timeoutMs),
  });
  await answer.dump();
  return statusCode;
}

/** Standard Webhooks, version 1. */
function sign(token: string, id: string, timestamp: number, body: string): string {
  const key = Buffer.from(token.replace(/^whsec_/, ""), "base64");
  return `v1,${createHmac("sha256", key).update(`${id}.${timestamp}.${body}`).digest("base64")}`;
}
