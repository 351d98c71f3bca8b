/** Finds the hooks that lead here: of what is served, or else of single projects, as where GitLab's plan has no group hooks. */
import { describeError, hintOf } from "../base/errors.ts";
import { GitLabError } from "../gitlab/errors.ts";
import type { ApiHook, GitLabRest, Scope } from "../gitlab/rest-api.ts";
import { describeScope } from "./scope-messages.ts";

/** Of the projects that sent hooks last, so many are looked at: each costs a request. */
const MOST_PROJECTS = 20;

export interface HookSearchOptions {
  readonly rest: Pick<GitLabRest, "hooksOf">;
  /** Those of which hooks have told, the last first. */
  readonly hookedProjects: () => readonly { readonly id: number; readonly path: string }[];
}

export interface FoundHook {
  readonly hook: ApiHook;
  /** The project it is on; undefined for one on what is served. */
  readonly project: string | undefined;
}

export interface FoundHooks {
  readonly hooks: readonly FoundHook[];
  /** Why there are none, and what to do, in words. */
  readonly problem: string | null;
}

/** Throws what keeps GitLab from answering. */
export async function findHooks(
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
    return { hooks: found, problem: found.length === 0 ? missing(scope, url) : null };
  } catch (error) {
    if (!isRefusal(error)) throw error;
    return { hooks: [], problem: describeHookError(error) };
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

function missing(scope: Scope, url: string): string {
  return `${describeScope(scope)} has no webhook that leads to ${url}, and no project that sent one has: “firerunner webhook install” makes it`;
}

/** What went wrong and what to do about it. */
export function describeHookError(error: unknown): string {
  const hint = hintOf(error);
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
