import { randomBytes } from "node:crypto";
import type { Clock } from "../../base/clock.ts";
import type { Job, Runner } from "./model.ts";

const TICKABLE_FOR_MS = 3 * 3_600_000;

interface NewRunner {
  readonly tags?: readonly string[];
  readonly runUntagged?: boolean;
  readonly description?: string;
  readonly paused?: boolean;
}

export interface Runners {
  add(options?: NewRunner): Runner;
  /** Its token is not known any more. Running jobs go on. */
  remove(id: number): void;
  byToken(token: string): Runner | undefined;
  contact(runner: Runner, info: unknown, systemId: unknown): void;
  /** The value of `X-GitLab-Last-Update`: changes when there may be a job for this runner. */
  lastUpdate(runner: Runner): string;
  /** A job became pending: every runner that could take it, and has asked before, hears of it. */
  tick(job: Job): void;
  /** Job requests that are held now. */
  heldRequests(): number;
  /** Resolves when the runner's value changes, the time is up, or the signal aborts. */
  waitForChange(runner: Runner, limitMs: number, signal: AbortSignal): Promise<void>;
}

export function canRun(runner: Runner, job: Job): boolean {
  const { tags } = job.definition;
  if (tags.length === 0) return runner.runUntagged;
  return tags.every((tag) => runner.tags.includes(tag));
}

export function createRunners(clock: Clock): Runners {
  const all = new Map<number, Runner>();
  const updates = new Map<number, string>();
  const waiting = new Map<number, Set<() => void>>();
  let nextId = 1;

  function add(options: NewRunner = {}): Runner {
    const runner: Runner = {
      id: nextId++,
      token: `glrt-${randomBytes(15).toString("base64url")}`,
      description: options.description ?? "firerunner",
      tags: options.tags ?? [],
      runUntagged: options.runUntagged ?? (options.tags ?? []).length === 0,
      paused: options.paused ?? false,
      contactedAt: undefined,
      info: undefined,
      systemId: undefined,
    };
    all.set(runner.id, runner);
    return runner;
  }

  function change(runner: Runner): void {
    updates.set(runner.id, randomBytes(16).toString("hex"));
    for (const wake of waiting.get(runner.id) ?? []) wake();
  }

  async function waitForChange(runner: Runner, limitMs: number, signal: AbortSignal): Promise<void> {
    const stop = new AbortController();
    const wakers = waiting.get(runner.id) ?? new Set();
    waiting.set(runner.id, wakers);
    const wake = () => stop.abort();
    wakers.add(wake);
    await clock.sleep(limitMs, AbortSignal.any([stop.signal, signal])).catch(() => {});
    wakers.delete(wake);
  }

  return {
    add,
    remove: (id) => all.delete(id),
    byToken: (token) => [...all.values()].find((runner) => runner.token === token),
    contact(runner, info, systemId) {
      runner.contactedAt = clock.now();
      if (typeof info === "object" && info !== null) runner.info = info as Record<string, unknown>;
      if (typeof systemId === "string") runner.systemId = systemId;
    },
    lastUpdate(runner) {
      if (!updates.has(runner.id)) change(runner);
      return updates.get(runner.id) ?? "";
    },
    tick(job) {
      const since = clock.now() - TICKABLE_FOR_MS;
      for (const runner of all.values()) {
        const asked = runner.contactedAt !== undefined && runner.contactedAt >= since;
        if (asked && canRun(runner, job)) change(runner);
      }
    },
    heldRequests: () => [...waiting.values()].reduce((sum, wakers) => sum + wakers.size, 0),
    waitForChange,
  };
}
