import { describeError } from "../base/errors.ts";
import { routeJob, type TagRules } from "../domain/routing.ts";
import { describeSize } from "../domain/size.ts";
import type { ApiJob, GitLabRest } from "../gitlab/rest-api.ts";
import type { DeliveryStore } from "../store/jobs-by-tag.ts";
import type { PendingJobIndex } from "./pending-job-index.ts";
import type { ProjectWatch } from "./project-watch.ts";

export interface PendingExplainerOptions {
  readonly store: Pick<DeliveryStore, "deliveryOfJob">;
  readonly rest: Pick<GitLabRest, "job">;
  readonly rules: () => TagRules;
  readonly index: Pick<PendingJobIndex, "find">;
  readonly projects: ReadonlyMap<number, ProjectWatch>;
}

/** Why a job that was not claimed here waits. */
export interface PendingExplainer {
  /** Empty when nothing is known of it. */
  explain(jobId: number): Promise<readonly string[]>;
}

export function createPendingExplainer({
  store,
  rest,
  rules,
  index,
  projects,
}: PendingExplainerOptions): PendingExplainer {
  async function fromGitLab(projectId: number, jobId: number): Promise<string[]> {
    try {
      return explainJob(await rest.job(projectId, jobId), rules());
    } catch (error) {
      return [`what GitLab says of it cannot be read: ${describeError(error)}`];
    }
  }

  return {
    async explain(jobId) {
      const observed = index.find(jobId);
      if (observed) {
        return "reason" in observed.outcome
          ? [observed.outcome.reason]
          : explainPendingJob(observed.job, rules());
      }
      const projectId = (await store.deliveryOfJob(jobId))?.projectId ?? onlyOne(projects);
      if (projectId === undefined) return [];
      const watch = projects.get(projectId);
      const reasons = await fromGitLab(projectId, jobId);
      if (!watch) return [...reasons, "its project is not one of those that are served"];
      return watch.problem === undefined
        ? reasons
        : [...reasons, `its project cannot be read: ${watch.problem}`];
    },
  };
}

function onlyOne(projects: ReadonlyMap<number, ProjectWatch>): number | undefined {
  const [first, ...others] = projects.keys();
  return others.length === 0 ? first : undefined;
}

function explainJob(job: ApiJob, rules: TagRules): string[] {
  if (job.status === "pending") return explainPendingJob(job, rules);
  return [endings[job.status] ?? `in GitLab it is ${job.status}, and so not waiting for a runner`];
}

const endings: Readonly<Record<string, string>> = {
  created: "in GitLab it is created, and waits for earlier jobs of its pipeline",
  manual: "in GitLab it waits for somebody to start it by hand",
  scheduled: "in GitLab it is delayed, and starts later by itself",
  waiting_for_resource: "in GitLab it waits for its resource group",
  running: "another runner has taken it",
  canceled: "it was canceled in GitLab",
};

function explainPendingJob(job: ApiJob, rules: TagRules): string[] {
  const routing = routeJob(job.tags, rules);
  if (routing.kind === "refused") return [routing.reason];
  if (routing.kind === "route") {
    const { tags, size } = routing.route;
    return [`it waits for a runner with the tags ${tags.join(", ")}, and asks for ${describeSize(size)}`];
  }
  const has = job.tags.length === 0 ? "it has no tags" : `it has the tags ${job.tags.join(", ")}`;
  return [`${has}, and none names a machine of ours, such as ${rules.prefix}-2cpu-4gb`];
}
