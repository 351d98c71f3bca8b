import { json, type Reply, refuse } from "../exchange.ts";
import { isWithin } from "../groups.ts";
import type { HookNews } from "../hooks/delivery.ts";
import type { Hook } from "../hooks/hook.ts";
import { jobNews, pipelineNews, pushNews } from "../hooks/news.ts";
import type { Job, Project } from "../model.ts";
import type { RestCall } from "./access.ts";
import { hookOf } from "./hooks.ts";
import { invalidParameter, Refused } from "./refused.ts";
import { tooManyRequests } from "./throttle.ts";

const triggers = [
  "push_events",
  "tag_push_events",
  "issues_events",
  "confidential_issues_events",
  "note_events",
  "merge_requests_events",
  "job_events",
  "pipeline_events",
  "wiki_page_events",
  "releases_events",
  "emoji_events",
  "resource_access_token_events",
];

/**
 * `POST …/hooks/:hook_id/test/:trigger`: sends an event now, with data of the newest job or pipeline there is, and answers what the
 * receiver said of it. Works for a hook that is switched off, and switches it on when it succeeds.
 */
export async function testHook(call: RestCall, homeOf: (call: RestCall) => Hook["home"]): Promise<Reply> {
  const { core, user, params } = call;
  const hook = hookOf(call, homeOf);
  const trigger = params[2] ?? "";
  if (!triggers.includes(trigger)) throw invalidParameter("trigger does not have a valid value");
  if (!core.limiter.allow(`hook test ${user.id} ${hook.id}`, core.behaviour.limits.hookTestsPerUser))
    throw tooManyRequests(core);
  const receipt = await core.hooks.test(hook, newsFor(call, hook, trigger));
  const isGood = receipt.statusCode !== undefined && receipt.statusCode >= 200 && receipt.statusCode < 300;
  return isGood ? json(201, { message: "201 Created" }) : refuse(422, receipt.text);
}

function newsFor(call: RestCall, hook: Hook, trigger: string): HookNews {
  const { core } = call;
  const project = projectFor(call, hook);
  const job = newestJob(call, project);
  if (trigger === "push_events") return pushNews(core, project);
  if (trigger === "job_events") {
    if (!job) throw cannot("Ensure the project has CI jobs.");
    return jobNews(core, job);
  }
  if (trigger !== "pipeline_events") throw cannot("Testing not available for this hook");
  if (!job) throw cannot("Ensure the project has CI pipelines.");
  return pipelineNews(core, job.pipeline);
}

function projectFor({ core }: RestCall, { home }: Hook): Project {
  if ("project" in home) return home.project;
  const project = core.projects.all().find(({ path }) => isWithin(path, home.group.path));
  if (!project) throw cannot("Ensure the group has a project with commits.");
  return project;
}

function newestJob({ core }: RestCall, project: Project): Job | undefined {
  return core.jobs.all().findLast((job) => job.project === project);
}

function cannot(reason: string): Refused {
  return new Refused(refuse(422, reason));
}
