/**
 * Watches the hook that leads here: GitLab switches a hook off after failed deliveries, and what happens meanwhile is never told. It is
 * looked for on what is served, or else on single projects, as where GitLab's plan has no group hooks. Facts: `alert_status` and
 * `disabled_until` of GitLab's hooks API.
 */

import type { Clock } from "../base/clock.ts";
import { describeWithHint } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { backoffMs } from "../base/rates.ts";
import { MINUTE_MS } from "../base/units.ts";
import { createWakeLoop } from "../base/wake-loop.ts";
import { GitLabError } from "../gitlab/errors.ts";
import type { ApiHook, GitLabRest, Scope } from "../gitlab/rest-api.ts";
import { readFailure } from "./api-pace.ts";
import { describeScope } from "./config.ts";

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
  /** Why there are none or they cannot be read, and what to do. */
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
  const loop = createWakeLoop(clock, tick);
  let found: readonly FoundHook[] = [];
  let problem: string | null = null;
  let failures = 0;

  async function tick(): Promise<number> {
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
      return settle(describeWithHint(error), Math.max(ownMs, readFailure(error).waitMs));
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
        log.warn({ hook: hook.id, problem: words }, "the webhook does not work");
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
  "webhook.url is not configured, so it is not known which of GitLab's webhooks lead here: add the address under which GitLab reaches the webhook listener";

function viewOf({ hook, project }: FoundHook, now: number): HookView {
  const { ok, words } = hookState(hook, now);
  return { id: hook.id, url: hook.url, ok, words: project === undefined ? words : `of ${project}: ${words}` };
}

/** Of the projects that sent hooks last, so many are looked at: each costs a request. */
const MOST_PROJECTS = 20;

interface HookSearchOptions {
  readonly rest: Pick<GitLabRest, "hooksOf">;
  /** Those of which hooks have told, the last first. */
  readonly hookedProjects: () => readonly { readonly id: number; readonly path: string }[];
}

interface FoundHook {
  readonly hook: ApiHook;
  /** The project it is on; undefined for one on what is served. */
  readonly project: string | undefined;
}

interface FoundHooks {
  readonly hooks: readonly FoundHook[];
  /** Why there are none, and what to do. */
  readonly problem: string | null;
}

/** Throws what keeps GitLab from answering. */
async function findHooks(
  options: HookSearchOptions,
  scope: Scope,
  url: string,
  signal: AbortSignal,
): Promise<FoundHooks> {
  const own = await ofScope(options, scope, url, signal);
  if (own.hooks.length > 0 || scope.kind === "project") return own;
  const hooks = await ofProjects(options, url, signal);
  return hooks.length > 0 ? { hooks, problem: null } : own;
}

async function ofScope(
  { rest }: HookSearchOptions,
  scope: Scope,
  url: string,
  signal: AbortSignal,
): Promise<FoundHooks> {
  if (scope.kind === "instance") return { hooks: [], problem: noInstanceHooks };
  try {
    const hooks = (await rest.hooksOf(scope, signal)).filter((hook) => isSameUrl(hook.url, url));
    const found = hooks.map((hook) => ({ hook, project: undefined }));
    return { hooks: found, problem: found.length === 0 ? noHook(scope, url) : null };
  } catch (error) {
    if (!isRefusal(error)) throw error;
    return { hooks: [], problem: describeWithHint(error) };
  }
}

async function ofProjects(
  { rest, hookedProjects }: HookSearchOptions,
  url: string,
  signal: AbortSignal,
): Promise<FoundHook[]> {
  const found: FoundHook[] = [];
  for (const { id, path } of hookedProjects().slice(0, MOST_PROJECTS)) {
    const hooks = await rest.hooksOf({ kind: "project", id, path }, signal).catch((error: unknown) => {
      if (isRefusal(error)) return [];
      throw error;
    });
    for (const hook of hooks) if (isSameUrl(hook.url, url)) found.push({ hook, project: path });
  }
  return found;
}

/** Groups without the plan for hooks, projects that are gone, roles that do not reach so far. */
function isRefusal(error: unknown): boolean {
  return (
    error instanceof GitLabError && (error.code === "gitlab_forbidden" || error.code === "gitlab_not_found")
  );
}

const noInstanceHooks =
  "GitLab has no webhook for the jobs of all its projects: install one per group or project (“firerunner webhook install --group PATH”); jobs elsewhere are found by looking";

function noHook(scope: Scope, url: string): string {
  return `${describeScope(scope)} has no webhook that leads to ${url}, and no project that sent one has: “firerunner webhook install” makes it`;
}

/** Written differently, they may still be the same: `https://EXAMPLE.org:443/webhook/`. */
export function isSameUrl(one: string, other: string): boolean {
  return normalUrl(one) === normalUrl(other);
}

function normalUrl(text: string): string {
  const url = URL.parse(text);
  return url === null ? text : `${url.origin}${url.pathname.replace(/\/+$/, "")}`;
}

/** How a hook is, and whether that is well. */
export function hookState(hook: ApiHook, now: number): { readonly ok: boolean; readonly words: string } {
  const { alertStatus, disabledUntil } = hook;
  if (alertStatus === "disabled") {
    return failing(
      "switched off by GitLab after many failed deliveries: send it a test (“firerunner webhook install”), which switches it on",
    );
  }
  if (alertStatus === "temporarily_disabled" || (disabledUntil ?? 0) > now) {
    const until = disabledUntil === undefined ? "" : ` until ${new Date(disabledUntil).toISOString()}`;
    return failing(
      `switched off by GitLab${until} after failed deliveries; jobs are found by looking meanwhile`,
    );
  }
  if (!hook.jobEvents) {
    return failing("does not send job events: “firerunner webhook install” repairs it");
  }
  return { ok: true, words: "works" };
}

function failing(words: string): { readonly ok: boolean; readonly words: string } {
  return { ok: false, words };
}
