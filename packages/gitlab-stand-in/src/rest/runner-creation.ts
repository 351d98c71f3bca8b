import type { Core } from "../core.ts";
import { json, type Reply } from "../exchange.ts";
import type { Group, Project } from "../model.ts";
import { tokenExpiry } from "../runner-token.ts";
import { hasLevel } from "../tokens.ts";
import type { RestCall } from "./access.ts";
import { badRequest, forbidden, invalidParameter } from "./refused.ts";
import { type RunnerSettings, readRunnerSettings, validateRunner } from "./runner-settings.ts";

const RECENT_MS = 7 * 24 * 3_600_000;
const types = ["instance_type", "group_type", "project_type"] as const;

interface Home {
  readonly group?: Group;
  readonly project?: Project;
}

/** `POST /user/runners`. The token in the answer is never shown again. */
export function createRunner(call: RestCall): Reply {
  const { core, user } = call;
  const home = readHome(call);
  const settings = readRunnerSettings(call.input);
  authorize(call, home);
  const runner: RunnerSettings = {
    tags: [],
    runUntagged: true,
    paused: false,
    locked: false,
    accessLevel: "not_protected",
    ...settings,
  };
  const problem = validateRunner(runner);
  if (problem !== undefined) throw badRequest(problem);
  checkLimit(core, home);
  const made = core.runners.add({
    tags: runner.tags ?? [],
    runUntagged: runner.runUntagged ?? true,
    paused: runner.paused ?? false,
    locked: runner.locked ?? false,
    protected: runner.accessLevel === "ref_protected",
    description: runner.description ?? "",
    maintenanceNote: runner.maintenanceNote,
    maximumTimeoutSeconds: runner.maximumTimeoutSeconds,
    group: home.group?.path,
    project: home.project,
    creatorId: user.id,
  });
  return json(201, { id: made.id, token: made.token, token_expires_at: tokenExpiry(made) });
}

function readHome({ core, input }: RestCall): Home {
  const type = input.oneOf("runner_type", types);
  if (type === undefined) throw invalidParameter("runner_type is missing");
  if (type === "instance_type") return {};
  const name = type === "group_type" ? "group_id" : "project_id";
  const id = input.integer(name);
  if (id === undefined) throw invalidParameter(`${name} is missing`);
  // Unlike in addresses, a path is no id here.
  const group = type === "group_type" ? core.groups.find(String(id)) : undefined;
  const project = type === "project_type" ? core.projects.find(String(id)) : undefined;
  if (!group && !project) throw badRequest("Missing/invalid scope");
  return { ...(group ? { group } : {}), ...(project ? { project } : {}) };
}

function authorize({ core, user }: RestCall, { group, project }: Home): void {
  const may = project
    ? hasLevel(user, project.path, "maintainer")
    : group
      ? hasLevel(user, group.path, "owner")
      : user.admin;
  const open = core.behaviour.runnerRegistration || user.admin || !(group || project);
  if (!may || !open) throw forbidden("Insufficient permissions");
}

/** Runners made or heard of in the last seven days count. The instance has no limit. */
function checkLimit(core: Core, { group, project }: Home): void {
  const since = core.clock.now() - RECENT_MS;
  const limit = group ? core.behaviour.runnersPerGroup : core.behaviour.runnersPerProject;
  if (!group && !project) return;
  const recent = core.runners
    .all()
    .filter((runner) => (group ? runner.groupPath === group.path : runner.projectId === project?.id))
    .filter((runner) => (runner.contactedAt ?? runner.createdAt) >= since || runner.createdAt >= since);
  const kind = group ? "group" : "project";
  if (recent.length >= limit)
    throw badRequest(`Maximum number of ci registered ${kind} runners (${limit}) exceeded`, false);
}
