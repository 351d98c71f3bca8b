/**
 * Watches the hook that leads here: GitLab switches a hook off after failed deliveries, and what happens meanwhile is never told.
 * Facts: `alert_status` and `disabled_until` of GitLab's hooks API.
 */

import { backoffMs } from "../base/backoff.ts";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { MINUTE_MS } from "../base/units.ts";
import { createWakeLoop } from "../base/wake-loop.ts";
import type { Scope } from "../gitlab/rest-api.ts";
import { describeHookError, type FoundHook, findHooks, type HookSearchOptions } from "./hook-search.ts";
import { hookState } from "./hook-state.ts";
import { readFailure } from "./read-failure.ts";

const INTERVAL_MS = 5 * MINUTE_MS;
const retryBackoff = { baseMs: 10_000, capMs: 10 * MINUTE_MS };

export interface HookHealthOptions extends HookSearchOptions {
  readonly scope: () => Promise<Scope>;
  /** The address that GitLab calls; without it no hook can be told to be ours. */
  readonly url: string | undefined;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
}

interface HookView {
  readonly id: number;
  readonly url: string;
  readonly ok: boolean;
  readonly words: string;
}

interface HookHealthStatus {
  /** The hooks that lead here; empty before the first look as well. */
  readonly hooks: readonly HookView[];
  /** Why there are none or they cannot be read, and what to do, in words. */
  readonly problem: string | null;
}

export interface HookHealth {
  start(): void;
  stop(): Promise<void>;
  /** Looks again soon: somebody has changed something. */
  wake(): void;
  status(): HookHealthStatus;
}

export function createHookHealth(options: HookHealthOptions): HookHealth {
  const { url, clock, random, log } = options;
  const ending = new AbortController();
  const loop = createWakeLoop(clock, look);
  let found: readonly FoundHook[] = [];
  let problem: string | null = null;
  let failures = 0;

  async function look(): Promise<number> {
    if (url === undefined) return settle(withoutUrl, INTERVAL_MS);
    try {
      const scope = await options.scope();
      const { hooks, problem: reason } = await findHooks(options, scope, url, ending.signal);
      failures = 0;
      tellChanges(hooks);
      return settle(reason, INTERVAL_MS);
    } catch (error) {
      if (ending.signal.aborted) return clock.now() + INTERVAL_MS;
      failures++;
      const ownMs = backoffMs(failures, random, retryBackoff);
      return settle(describeHookError(error), Math.max(ownMs, readFailure(error).waitMs));
    }
  }

  /** Each problem is said when it begins; `waitMs` until the next look. */
  function settle(now: string | null, waitMs: number): number {
    if (now !== problem) {
      if (now !== null) log.warn({ problem: now }, "the webhook cannot be watched");
      else log.info({ url }, "the webhook can be watched again");
    }
    problem = now;
    return clock.now() + waitMs;
  }

  function tellChanges(hooks: readonly FoundHook[]): void {
    for (const { hook } of hooks) {
      const before = found.find((each) => each.hook.id === hook.id)?.hook;
      const { ok, words } = hookState(hook, clock.now());
      const wasOk = before === undefined || hookState(before, clock.now()).ok;
      if (!ok && JSON.stringify(before) !== JSON.stringify(hook))
        log.warn({ hook: hook.id, problem: words }, "the webhook is in trouble");
      if (ok && !wasOk) log.info({ hook: hook.id }, "the webhook works again");
    }
    found = hooks;
  }

  return {
    start: loop.start,
    wake: loop.wake,
    async stop() {
      ending.abort();
      await loop.stop();
    },
    status: () => ({
      hooks: found.map((each) => viewOf(each, clock.now())),
      problem,
    }),
  };
}

const withoutUrl =
  "webhook.url is not configured, so it is not known which of GitLab's webhooks lead here: add the address under which GitLab reaches this door";

function viewOf({ hook, project }: FoundHook, now: number): HookView {
  const { ok, words } = hookState(hook, now);
  return { id: hook.id, url: hook.url, ok, words: project === undefined ? words : `of ${project}: ${words}` };
}
