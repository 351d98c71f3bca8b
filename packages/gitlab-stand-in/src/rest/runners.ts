import { deleteForClient, tokenExpiry } from "../api/runners.ts";
import { json, type Reply } from "../exchange.ts";
import type { Runner } from "../model.ts";
import { isWithin } from "../projects.ts";
import { hasLevel } from "../tokens.ts";
import { groupOf, projectOf, type RestCall } from "./access.ts";
import { badRequest, forbidden, invalidParameter, notFound, page } from "./input.ts";
import { runnerJobEntity } from "./jobs.ts";
import { readRunnerSettings, runnerDetails, runnerEntity, validateRunner } from "./new-runners.ts";

const types = ["instance_type", "group_type", "project_type"] as const;

const jobStatuses = [
  "created",
  "pending",
  "running",
  "success",
  "failed",
  "canceling",
  "canceled",
  "skipped",
  "manual",
] as const;

/** `GET /runners/all`: for administrators. */
export function listAllRunners(call: RestCall): Reply {
  if (!call.user.admin) throw forbidden();
  return runnerPage(call, () => true);
}

/** `GET /groups/:id/runners`: those of the group and of the groups above it, and the instance's. */
export function listGroupRunners(call: RestCall): Reply {
  const group = groupOf(call, "maintainer");
  return runnerPage(
    call,
    (runner) =>
      runner.type === "instance_type" ||
      (runner.groupPath !== undefined && isWithin(group.path, runner.groupPath)),
  );
}

/** `GET /projects/:id/runners`: the project's own, those of the groups above it, and the instance's. */
export function listProjectRunners(call: RestCall): Reply {
  const project = projectOf(call, "maintainer");
  return runnerPage(
    call,
    (runner) =>
      runner.type === "instance_type" ||
      runner.projectId === project.id ||
      (runner.groupPath !== undefined && isWithin(project.path, runner.groupPath)),
  );
}

function runnerPage(call: RestCall, isShown: (runner: Runner) => boolean): Reply {
  const type = call.input.oneOf("type", types);
  const paused = call.input.boolean("paused");
  const tags = call.input.list("tag_list") ?? [];
  const runners = call.core.runners
    .all()
    .filter(isShown)
    .filter((runner) => type === undefined || runner.type === type)
    .filter((runner) => paused === undefined || runner.paused === paused)
    .filter((runner) => tags.every((tag) => runner.tags.includes(tag)))
    .toReversed();
  return page(call, runners, (runner) => runnerEntity(call.core, runner));
}

/** `GET /runners/:id`. The instance's runners are for everybody to see. */
export function showRunner(call: RestCall): Reply {
  const runner = runnerOf(call);
  if (runner.type !== "instance_type" && !mayManage(call, runner, "maintainer"))
    throw forbidden("No access granted");
  return json(200, runnerDetails(call.core, runner));
}

/** `PUT /runners/:id`. */
export function updateRunner(call: RestCall): Reply {
  const runner = runnerOf(call);
  if (!mayManage(call, runner, "maintainer")) throw forbidden("No access granted");
  const changes = readRunnerSettings(call.input);
  if (Object.keys(changes).length === 0)
    throw invalidParameter(
      "description, active, paused, tag_list, run_untagged, locked, access_level, maximum_timeout, maintenance_note are missing, at least one parameter must be provided",
    );
  const problem = validateRunner({
    tags: runner.tags,
    runUntagged: runner.runUntagged,
    description: runner.description,
    ...changes,
  });
  if (problem !== undefined) throw badRequest(problem);
  Object.assign(runner, changes);
  return json(200, runnerDetails(call.core, runner));
}

/**
 * `DELETE /runners/:id`. GitLab lets a runner go at any time; its running jobs are then watched by nobody any more, so whoever
 * deletes one with an unfinished job does wrong.
 */
export function deleteRunner(call: RestCall): Reply {
  const runner = runnerOf(call);
  if (!mayManage(call, runner, runner.type === "group_type" ? "owner" : "maintainer"))
    throw forbidden("No access granted");
  deleteForClient(call.core, runner);
  return { status: 204 };
}

/** `GET /runners/:id/jobs`: those it took, newest first. */
export function listRunnerJobs(call: RestCall): Reply {
  const runner = runnerOf(call);
  if (!mayManage(call, runner, "reporter")) throw forbidden("No access granted");
  const status = call.input.oneOf("status", jobStatuses);
  const systemId = call.input.text("system_id");
  const jobs = call.core.jobs
    .all()
    .filter((job) => job.runner === runner)
    .filter((job) => hasLevel(call.user, job.project.path, "reporter"))
    .filter((job) => status === undefined || job.status === status)
    .filter((job) => systemId === undefined || job.systemId === systemId)
    .toSorted((a, b) => b.id - a.id);
  return page(call, jobs, (job) => runnerJobEntity(call.core, job), { keyset: true });
}

/** `POST /runners/:id/reset_authentication_token`. */
export function resetRunnerToken(call: RestCall): Reply {
  const runner = runnerOf(call);
  if (!mayManage(call, runner, "maintainer")) throw forbidden("No access granted");
  call.core.runners.resetToken(runner, "client");
  return json(201, { token: runner.token, token_expires_at: tokenExpiry(runner) });
}

function runnerOf({ core, params }: RestCall): Runner {
  const runner = core.runners.get(Number(params[0]));
  if (!runner) throw notFound();
  return runner;
}

function mayManage(
  { core, user }: RestCall,
  runner: Runner,
  role: "reporter" | "maintainer" | "owner",
): boolean {
  if (user.admin) return true;
  const project = runner.projectId === undefined ? undefined : core.projects.find(String(runner.projectId));
  const path = project?.path ?? runner.groupPath;
  return path !== undefined && hasLevel(user, path, role);
}
