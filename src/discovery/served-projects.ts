/** Which projects are served, as GitLab and the store say. */
import type { Clock } from "../base/clock.ts";
import { describeError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { HOUR_MS } from "../base/units.ts";
import type { ApiProject, GitLabRest, Scope } from "../gitlab/rest-api.ts";
import type { Deliveries, KnownProject } from "../store/deliveries.ts";
import { readFailure } from "./read-failure.ts";
import { belongsTo, describeScope } from "./scope-messages.ts";
import { createUnknownProjects, type UnknownProjects } from "./unknown-projects.ts";

/** A project that GitLab does not list (too many of them, archived) is looked at for so long after its last webhook. */
const KEEP_SILENT_MS = 7 * 24 * HOUR_MS;

export interface ServedProjectsOptions {
  readonly store: Pick<Deliveries, "projects" | "noteProjects" | "forgetProject">;
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

export interface ServedProjects {
  /** Asks GitLab for the projects. Throws what keeps GitLab from answering. */
  refresh(): Promise<void>;
  /** Asks GitLab about those of which that is to be found out. Throws as well. */
  lookAtStrangers(): Promise<void>;
  readonly strangers: UnknownProjects;
  /** What is wrong with the projects that the configuration names. */
  namedProblems(): readonly ProjectProblem[];
}

export function createServedProjects(options: ServedProjectsOptions, signal: AbortSignal): ServedProjects {
  const { store, rest, clock, onServe, onDrop } = options;
  const strangers = createUnknownProjects(options);
  const served = new Set<number>();
  let namedProblems: readonly ProjectProblem[] = [];

  function serve(project: Pick<KnownProject, "id" | "path" | "hookedAt">): void {
    served.add(project.id);
    strangers.welcome(project.id);
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
    strangers.forgetRefusals();
  }

  async function decide(scope: Scope, project: KnownProject, isListed: boolean): Promise<void> {
    if (isListed || mayStay(scope, project)) serve(project);
    else if (project.path === "") strangers.add(project.id);
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

  async function lookAtStrangers(): Promise<void> {
    for (let id = strangers.next(); id !== undefined && !signal.aborted; id = strangers.next()) {
      const project = await strangers.ask(id, await options.scope(), signal);
      if (!project) await forget(id);
      else {
        await store.noteProjects([project]);
        serve({ ...project, hookedAt: clock.now() });
      }
    }
  }

  return { refresh, lookAtStrangers, strangers, namedProblems: () => namedProblems };
}

async function find(
  rest: Pick<GitLabRest, "findProject">,
  name: string,
  signal: AbortSignal,
): Promise<ApiProject | ProjectProblem> {
  try {
    return await rest.findProject(name, signal);
  } catch (error) {
    if (!readFailure(error).isAboutProject) throw error;
    return { project: name, problem: describeError(error) };
  }
}
