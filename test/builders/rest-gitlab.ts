import type { Clock } from "../../src/base/clock.ts";
import { GitLabError } from "../../src/gitlab/errors.ts";
import type {
  ApiHook,
  ApiJob,
  ApiProject,
  GitLabRest,
  RateBudget,
  Scope,
} from "../../src/gitlab/rest-api.ts";

interface JobInGitLab extends ApiJob {
  readonly projectId: number;
  status: string;
}

type Rest = Pick<GitLabRest, "projectsOf" | "findProject" | "pendingJobs" | "job" | "hooksOf">;
type Call = keyof Rest;

export interface RestGitLab {
  readonly rest: Rest & { readonly budget: RateBudget | undefined };
  readonly jobs: Map<number, JobInGitLab>;
  readonly projects: Map<number, ApiProject>;
  hooks: ApiHook[];
  budget: RateBudget | undefined;
  /** Requests in the order in which they came: `pendingJobs 7`. */
  readonly asked: { readonly call: string; readonly at: number }[];
  /** How often a call was made; with its argument, such as `pendingJobs 7`, or without. */
  count(call: string): number;
  /** Called before a request is answered: to throw, or to make it wait. */
  before: (call: Call, subject: string) => unknown;
  addJob(job: Partial<JobInGitLab> & { id: number }): JobInGitLab;
  addProject(id: number, path: string): void;
}

/** GitLab's REST API in memory, as far as looking for jobs needs it. One project, 7, is there. */
export function aRestGitLab(clock: Pick<Clock, "now">): RestGitLab {
  const jobs = new Map<number, JobInGitLab>();
  const projects = new Map<number, ApiProject>();
  const asked: RestGitLab["asked"] = [];

  async function ask<Result>(call: Call, subject: string, answer: () => Result): Promise<Result> {
    asked.push({ call: `${call} ${subject}`, at: clock.now() });
    await gitlab.before(call, subject);
    return answer();
  }

  function project(name: string): ApiProject {
    const found = [...projects.values()].find(({ id, path }) => String(id) === name || path === name);
    if (!found) throw notFound(`looking for project ${name}`);
    return found;
  }

  const gitlab: RestGitLab = {
    jobs,
    projects,
    asked,
    hooks: [],
    budget: undefined,
    before: () => {},
    count: (call) => asked.filter((each) => each.call === call || each.call.startsWith(`${call} `)).length,
    addJob(job) {
      const defaults = {
        name: `job-${job.id}`,
        status: "pending",
        tags: ["firecracker-2cpu-4gb"],
        ref: "main",
      };
      const webUrl = `https://gitlab.example.com/-/jobs/${job.id}`;
      const added = { ...defaults, projectId: 7, createdAt: clock.now(), webUrl, ...job };
      jobs.set(added.id, added);
      return added;
    },
    addProject: (id, path) => void projects.set(id, { id, path }),
    rest: {
      get budget() {
        return gitlab.budget;
      },
      projectsOf: (scope) =>
        ask("projectsOf", scope.kind, () => [...projects.values()].filter((each) => isIn(scope, each))),
      findProject: (name) => ask("findProject", name, () => project(name)),
      pendingJobs: (id) =>
        ask("pendingJobs", String(id), () => {
          project(String(id));
          return [...jobs.values()]
            .filter(({ projectId, status }) => projectId === id && status === "pending")
            .toReversed();
        }),
      job: (projectId, id) =>
        ask("job", `${projectId} ${id}`, () => {
          const job = jobs.get(id);
          if (job?.projectId !== projectId) throw notFound(`reading job ${id}`);
          return job;
        }),
      hooksOf: (scope) => ask("hooksOf", scope.kind, () => gitlab.hooks),
    },
  };
  gitlab.addProject(7, "group/project");
  return gitlab;
}

function isIn(scope: Scope, { id, path }: ApiProject): boolean {
  if (scope.kind === "instance") return true;
  return scope.kind === "project" ? scope.id === id : path.startsWith(`${scope.path}/`);
}

function notFound(doing: string): GitLabError {
  return new GitLabError("gitlab_not_found", `${doing}: GitLab does not find it (404)`);
}
