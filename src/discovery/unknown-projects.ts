import { describeError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import type { ApiProject, GitLabRest, Scope } from "../gitlab/rest-api.ts";
import { readFailure } from "./read-failure.ts";
import { belongsTo, describeScope } from "./scope-messages.ts";
import type { ProjectProblem } from "./served-projects.ts";

/** Projects that wait to be asked about, and refusals that are remembered. More than this send hooks by mistake. */
const MOST = 1_000;

/** Projects that send webhooks and are not served, or may be gone: GitLab is asked about each, and a refusal is said once. */
export interface UnknownProjects {
  /** Whether GitLab has to be asked about it. */
  add(projectId: number): boolean;
  next(): number | undefined;
  /** The project, if it belongs to the scope. Throws when GitLab cannot be asked now. */
  ask(projectId: number, scope: Scope, signal: AbortSignal): Promise<ApiProject | undefined>;
  welcome(projectId: number): void;
  /** Things may have changed: whoever sends hooks again is asked about again. */
  forgetRefusals(): void;
  problems(): readonly ProjectProblem[];
}

export function createUnknownProjects(deps: {
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
    if (refused.size < MOST) refused.set(projectId, { project, problem });
    if (!forgiven.has(projectId)) log.warn({ project, problem }, "a project is not served");
  }

  return {
    add(projectId) {
      if (refused.has(projectId) || waiting.has(projectId) || waiting.size >= MOST) return false;
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
        if (!readFailure(error).isAboutProject) throw error;
        refuse(projectId, `project ${projectId}`, describeError(error));
      }
      return undefined;
    },
    welcome(projectId) {
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
