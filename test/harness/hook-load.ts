/**
 * Job Hooks at a constant rate, whatever becomes of them: each is due at a time of its own, and its answer is measured from then on.
 * A sender that waited for answers would send less just when they are slow, and would not see it.
 */
import { randomUUID } from "node:crypto";
import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { Pool } from "undici";
import type { Secret } from "../../src/base/secret.ts";
import { signDelivery } from "../../src/gitlab/webhook-signature.ts";
import { aJobHook, hookHeaders } from "../builders/hook.ts";

/** What GitLab tells of one job, in its order. */
const statuses = ["created", "pending", "running", "success"] as const;
const FIRST_JOB = 1_000;

export interface HookLoad {
  /** Where webhooks go. */
  readonly url: string;
  readonly signingKey: Secret;
  readonly projectIds: readonly number[];
  readonly perSecond: number;
  readonly seconds: number;
  /** Connections that are kept open; a delivery waits where all of them wait for answers. */
  readonly connections: number;
}

export interface HookAnswers {
  /** From when each was due until its answer had been read, in the order of the answers. */
  readonly latenciesMs: readonly number[];
  /** `webhook-id` of those that were answered 2xx. */
  readonly answered: readonly string[];
  /** Answers other than 2xx, and errors, by their words. */
  readonly failures: ReadonlyMap<string, number>;
  /** Bytes of a body, on average. */
  readonly bodyBytes: number;
}

interface Delivery {
  readonly id: string;
  readonly headers: Record<string, string>;
  readonly body: Buffer;
}

/** Sends until all are answered, or `signal`: then what is not answered is given up. */
export async function sendHooks(load: HookLoad, signal?: AbortSignal): Promise<HookAnswers> {
  const { perSecond, seconds, connections } = load;
  const { origin, pathname: path } = new URL(load.url);
  const pool = new Pool(origin, { connections });
  const deliveries = prepare(load, perSecond * seconds);
  const latenciesMs: number[] = [];
  const answered: string[] = [];
  const failures = new Map<string, number>();
  const open: Promise<void>[] = [];

  async function send({ id, headers, body }: Delivery, dueAt: number): Promise<void> {
    try {
      const answer = await pool.request({ method: "POST", path, headers, body });
      await answer.body.dump();
      if (answer.statusCode >= 300) return fail(`status ${answer.statusCode}`);
      latenciesMs.push(performance.now() - dueAt);
      answered.push(id);
    } catch (error) {
      fail((error as Error).message);
    }
  }
  const fail = (words: string) => void failures.set(words, (failures.get(words) ?? 0) + 1);

  const startedAt = performance.now();
  for (let sent = 0; sent < deliveries.length && !signal?.aborted; await sleep(1)) {
    const due = ((performance.now() - startedAt) / 1_000) * perSecond;
    for (; sent < due && sent < deliveries.length; sent++)
      open.push(send(deliveries[sent]!, startedAt + (sent * 1_000) / perSecond));
  }
  if (signal?.aborted) await pool.destroy();
  await Promise.all(open);
  await pool.destroy();
  const bytes = deliveries.reduce((sum, { body }) => sum + body.length, 0);
  return { latenciesMs, answered, failures, bodyBytes: bytes / deliveries.length };
}

/** Made before anything is sent: signing is GitLab's work, and it has computers of its own for that. */
function prepare({ signingKey, projectIds }: HookLoad, count: number): Delivery[] {
  const now = Date.now();
  return Array.from({ length: count }, (_, index) => {
    const job = Math.floor(index / statuses.length);
    const projectId = projectIds[job % projectIds.length] ?? 0;
    const hook = aJobHook({
      jobId: FIRST_JOB + job,
      pipelineId: FIRST_JOB + job,
      projectId,
      status: statuses[index % statuses.length] ?? "pending",
      created: now,
    });
    const body = Buffer.from(JSON.stringify(hook));
    const id = randomUUID();
    const timestamp = Math.floor(now / 1_000);
    const headers = {
      ...hookHeaders("Job Hook", id),
      "webhook-timestamp": String(timestamp),
      "webhook-signature": signDelivery(signingKey, { id, timestamp, body }),
    };
    return { id, headers, body };
  });
}
