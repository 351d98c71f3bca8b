/**
 * Whose pending jobs are read: the projects of the group (or the one project, or those the token's user is a member of), those that
 * the configuration names, and those that send webhooks, as far as they belong to what is served. The list is read every hour; a
 * project that is not in it and sends webhooks is asked about by itself.
 */

import type { Clock } from "../base/clock.ts";
import { describeError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { backoffMs } from "../base/rates.ts";
import { HOUR_MS } from "../base/units.ts";
import { createWakeLoop } from "../base/wake-loop.ts";
import type { ApiProject, GitLabRest, Scope } from "../gitlab/rest-api.ts";
import type { DeliveryStore, KnownProject } from "../store/jobs-by-tag.ts";
import { readFailure } from "./api-pace.ts";
import { belongsTo, describeScope } from "./config.ts";

/** A project that GitLab does not list (too many of them, archived) is looked at for so long after its last webhook. */
const KEEP_SILENT_MS = 7 * 24 * HOUR_MS;

interface ServedProjectsOptions {
  readonly store: Pick<DeliveryStore, "projects" | "noteProjects" | "forgetProject">;
  readonly rest: Pick<GitLabRest, "projectsOf" | "findProject">;
  /** What is configured, found out from GitLab; may throw. */
  readonly scope: () => Promise<Scope>;
  /** Paths or ids that the configuration names. */
  readonly named: readonly string[];
  readonly clock: Pick<Clock, "now">;
  readonly log: Log;
  /** This project is to be looked at; again when its path may have changed. */
  readonly onServe: (project: Pick<KnownProject, "id" | "path" | "hookedAt">) => void;
  readonly onDrop: (projectId: number) => void;
}

export interface ProjectProblem {
  /** Its path, or what else it is known by. */
  readonly project: string;
  readonly problem: string;
}

interface ServedProjects {
  /** Asks GitLab for the projects. Throws what keeps GitLab from answering. */
  refresh(): Promise<void>;
  /** Asks GitLab about those of which that is to be found out. Throws as well. */
  checkUnknown(): Promise<void>;
  readonly unknown: UnknownProjects;
  /** What is wrong with the projects that the configuration names. */
  namedProblems(): readonly ProjectProblem[];
}

function createServedProjects(options: ServedProjectsOptions, signal: AbortSignal): ServedProjects {
  const { store, rest, clock, onServe, onDrop } = options;
  const unknownProjects = createUnknownProjects(options);
  const served = new Set<number>();
  let namedProblems: readonly ProjectProblem[] = [];

  function serve(project: Pick<KnownProject, "id" | "path" | "hookedAt">): void {
    served.add(project.id);
    unknownProjects.remove(project.id);
    onServe(project);
  }

  async function forget(id: number): Promise<void> {
    served.delete(id);
    onDrop(id);
    await store.forgetProject(id);
  }

  async function refresh(): Promise<void> {
    const scope = await options.scope();
    // What is known is looked at without waiting for a list that may be long.
    for (const project of await store.projects()) if (mayStay(scope, project)) serve(project);
    const listed = await rest.projectsOf(scope, signal);
    const named = await findNamed(scope);
    await store.noteProjects([...listed, ...named]);
    const current = new Set([...listed, ...named].map(({ id }) => id));
    for (const project of await store.projects()) await decide(scope, project, current.has(project.id));
    unknownProjects.forgetRefusals();
  }

  async function decide(scope: Scope, project: KnownProject, isListed: boolean): Promise<void> {
    if (isListed || mayStay(scope, project)) serve(project);
    else if (project.path === "") unknownProjects.add(project.id);
    else await forget(project.id);
  }

  function mayStay(scope: Scope, project: KnownProject): boolean {
    return belongsTo(scope, project) && clock.now() - (project.hookedAt ?? 0) < KEEP_SILENT_MS;
  }

  async function findNamed(scope: Scope): Promise<ApiProject[]> {
    const found: ApiProject[] = [];
    const problems: ProjectProblem[] = [];
    for (const name of options.named) {
      const project = await find(rest, name, signal);
      if ("problem" in project) problems.push(project);
      else if (belongsTo(scope, project)) found.push(project);
      else problems.push({ project: name, problem: `it does not belong to ${describeScope(scope)}` });
    }
    namedProblems = problems;
    return found;
  }

  async function checkUnknown(): Promise<void> {
    for (let id = unknownProjects.next(); id !== undefined && !signal.aborted; id = unknownProjects.next()) {
      const project = await unknownProjects.ask(id, await options.scope(), signal);
      if (!project) await forget(id);
      else {
        await store.noteProjects([project]);
        serve({ ...project, hookedAt: clock.now() });
      }
    }
  }

  return { refresh, checkUnknown, unknown: unknownProjects, namedProblems: () => namedProblems };
}

async function find(
  rest: Pick<GitLabRest, "findProject">,
  name: string,
  signal: AbortSignal,
): Promise<ApiProject | ProjectProblem> {
  try {
    return await rest.findProject(name, signal);
  } catch (error) {
    if (!readFailure(error).isOfProject) throw error;
    return { project: name, problem: describeError(error) };
  }
}

const REFRESH_MS = HOUR_MS;
const retryBackoff = { baseMs: 5_000, capMs: 600_000 };

export interface ProjectListOptions extends ServedProjectsOptions {
  readonly clock: Clock;
  readonly random: () => number;
}

export interface ProjectList {
  start(): void;
  stop(): Promise<void>;
  /** Asks GitLab again soon. */
  refresh(): void;
  /** GitLab is asked about one: it is not looked at and sends webhooks, or it is, and may be gone. */
  check(projectId: number): void;
  /** Why the list could not be read. */
  problem(): string | undefined;
  problems(): readonly ProjectProblem[];
}

export function createProjectList(options: ProjectListOptions): ProjectList {
  const { clock, log, random } = options;
  const ending = new AbortController();
  const projects = createServedProjects(options, ending.signal);
  const loop = createWakeLoop(clock, tick);
  let dueAt = 0;
  let failures = 0;
  let problem: string | undefined;

  async function tick(): Promise<number> {
    try {
      if (clock.now() >= dueAt) {
        await projects.refresh();
        dueAt = clock.now() + REFRESH_MS;
      }
      await projects.checkUnknown();
      noteGood();
      return dueAt;
    } catch (error) {
      if (ending.signal.aborted) return dueAt;
      return noteFailure(error);
    }
  }

  function noteGood(): void {
    if (problem !== undefined) log.info({}, "GitLab's list of projects can be read again");
    problem = undefined;
    failures = 0;
  }

  function noteFailure(error: unknown): number {
    const message = describeError(error);
    if (message !== problem) log.warn({ problem: message }, "GitLab's list of projects cannot be read");
    problem = message;
    failures++;
    return clock.now() + Math.max(readFailure(error).waitMs, backoffMs(failures, random, retryBackoff));
  }

  return {
    start: loop.start,
    async stop() {
      ending.abort();
      await loop.stop();
    },
    refresh() {
      dueAt = 0;
      loop.wake();
    },
    check(projectId) {
      // While GitLab cannot be asked, what it is asked for waits.
      if (projects.unknown.add(projectId) && failures === 0) loop.wake();
    },
    problem: () => problem,
    problems: () => [...projects.namedProblems(), ...projects.unknown.problems()],
  };
}

/** Projects that wait to be asked about, and refusals that are remembered. More than this send hooks by mistake. */
const MOST_UNKNOWN = 1_000;

/** Projects that send webhooks and are not served, or may be gone: GitLab is asked about each, and a refusal is said once. */
interface UnknownProjects {
  /** Whether GitLab has to be asked about it. */
  add(projectId: number): boolean;
  next(): number | undefined;
  /** The project, if it belongs to the scope. Throws when GitLab cannot be asked now. */
  ask(projectId: number, scope: Scope, signal: AbortSignal): Promise<ApiProject | undefined>;
  remove(projectId: number): void;
  /** Things may have changed: whoever sends hooks again is asked about again. */
  forgetRefusals(): void;
  problems(): readonly ProjectProblem[];
}

function createUnknownProjects(deps: {
  readonly rest: Pick<GitLabRest, "findProject">;
  readonly log: Log;
}): UnknownProjects {
  const { rest, log } = deps;
  const waiting = new Set<number>();
  /** Why it is not served, by project; said in the log already. */
  const refused = new Map<number, ProjectProblem>();
  const forgiven = new Set<number>();

  function refuse(projectId: number, project: string, problem: string): void {
    waiting.delete(projectId);
    if (refused.size < MOST_UNKNOWN) refused.set(projectId, { project, problem });
    if (!forgiven.has(projectId)) log.warn({ project, problem }, "a project is not served");
  }

  return {
    add(projectId) {
      if (refused.has(projectId) || waiting.has(projectId) || waiting.size >= MOST_UNKNOWN) return false;
      waiting.add(projectId);
      return true;
    },
    next: () => waiting.values().next().value,
    async ask(projectId, scope, signal) {
      try {
        const project = await rest.findProject(String(projectId), signal);
        if (belongsTo(scope, project)) return project;
        refuse(projectId, project.path, `it does not belong to ${describeScope(scope)}`);
      } catch (error) {
        if (!readFailure(error).isOfProject) throw error;
        refuse(projectId, `project ${projectId}`, describeError(error));
      }
      return undefined;
    },
    remove(projectId) {
      waiting.delete(projectId);
      refused.delete(projectId);
      forgiven.delete(projectId);
    },
    forgetRefusals() {
      forgiven.clear();
      for (const projectId of refused.keys()) forgiven.add(projectId);
      refused.clear();
    },
    problems: () => [...refused.values()],
  };
}
