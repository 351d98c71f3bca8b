/**
 * Watches the hook that leads here: GitLab switches a hook off after failed deliveries, and what happens meanwhile is never told.
 * Facts: `alert_status` and `disabled_until` of GitLab's hooks API.
 */
import type { Clock } from "../base/clock.ts";
import { describeError, FireRunnerError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { MINUTE_MS } from "../base/units.ts";
import { backoffMs } from "../gitlab/backoff.ts";
import type { ApiHook, GitLabRest, Scope } from "../gitlab/rest-api.ts";
import { hookStanding } from "./hook-standing.ts";
import { readFailure } from "./read-failure.ts";
import { describeScope } from "./scope-words.ts";
import { createWakeLoop } from "./wake-loop.ts";

const INTERVAL_MS = 5 * MINUTE_MS;
const retryBackoff = { baseMs: 10_000, capMs: 10 * MINUTE_MS };

export interface HookHealthOptions {
  readonly rest: Pick<GitLabRest, "hooksOf">;
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
  const { rest, url, clock, random, log } = options;
  const ending = new AbortController();
  const loop = createWakeLoop(clock, look);
  let found: readonly ApiHook[] = [];
  let problem: string | null = null;
  let failures = 0;

  async function look(): Promise<number> {
    if (url === undefined) return settle(withoutUrl, INTERVAL_MS);
    try {
      const scope = await options.scope();
      if (scope.kind === "instance") return settle(noInstanceHooks, INTERVAL_MS);
      const hooks = (await rest.hooksOf(scope, ending.signal)).filter((hook) => isSameUrl(hook.url, url));
      failures = 0;
      tellChanges(hooks);
      return settle(hooks.length === 0 ? missing(scope, url) : null, INTERVAL_MS);
    } catch (error) {
      if (ending.signal.aborted) return clock.now() + INTERVAL_MS;
      failures++;
      const ownMs = backoffMs(failures, random, retryBackoff);
      return settle(unreadable(error), Math.max(ownMs, readFailure(error).waitMs));
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

  function tellChanges(hooks: readonly ApiHook[]): void {
    for (const hook of hooks) {
      const before = found.find(({ id }) => id === hook.id);
      const { ok, words } = hookStanding(hook, clock.now());
      const wasOk = before === undefined || hookStanding(before, clock.now()).ok;
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
      hooks: found.map((hook) => ({ id: hook.id, url: hook.url, ...hookStanding(hook, clock.now()) })),
      problem,
    }),
  };
}

const withoutUrl =
  "webhook.url is not configured, so it is not known which of GitLab's webhooks lead here: add the address under which GitLab reaches this door";
const noInstanceHooks =
  "GitLab has no webhook for the jobs of all its projects: install one per group or project (“firerunner webhook install --group PATH”); jobs elsewhere are found by looking";

function missing(scope: Scope, url: string): string {
  return `${describeScope(scope)} has no webhook that leads to ${url}: “firerunner webhook install” makes it (webhooks of single projects are not looked at)`;
}

function unreadable(error: unknown): string {
  const hint = error instanceof FireRunnerError ? error.hint : undefined;
  return hint === undefined ? describeError(error) : `${describeError(error)}; ${hint}`;
}

/** Written differently, they may still be the same: `https://EXAMPLE.org:443/webhook/`. */
export function isSameUrl(one: string, other: string): boolean {
  return normal(one) === normal(other);
}

function normal(text: string): string {
  const url = URL.parse(text);
  return url === null ? text : `${url.origin}${url.pathname.replace(/\/+$/, "")}`;
}
