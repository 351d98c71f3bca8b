/** Makes runners for users, and shows a runner as the REST API does. */
import { tokenExpiry } from "../api/runners.ts";
import type { Core } from "../core.ts";
import { json, type Reply } from "../exchange.ts";
import { type Group, isProcessing, type Project, type Runner } from "../model.ts";
import { hasLevel } from "../tokens.ts";
import type { RestCall } from "./access.ts";
import { badRequest, forbidden, type Input, invalidParameter } from "./input.ts";

const MAX_TAGS = 50;
const MAX_TEXT = 1_024;
const MIN_TIMEOUT_SECONDS = 600;

/** What a client may say of a runner, when it is made and later. */
interface RunnerSettings {
  readonly description?: string;
  readonly maintenanceNote?: string;
  readonly paused?: boolean;
  readonly locked?: boolean;
  readonly runUntagged?: boolean;
  readonly tags?: readonly string[];
  readonly accessLevel?: "not_protected" | "ref_protected";
  readonly maximumTimeoutSeconds?: number;
}

/** Those that are given, each in its form; else throws GitLab's 400. */
export function readRunnerSettings(input: Input): RunnerSettings {
  return withoutGaps({
    description: input.text("description"),
    maintenanceNote: input.text("maintenance_note"),
    paused: input.boolean("paused"),
    locked: input.boolean("locked"),
    runUntagged: input.boolean("run_untagged"),
    tags: input.list("tag_list")?.filter((tag, at, all) => all.indexOf(tag) === at),
    accessLevel: input.oneOf("access_level", ["not_protected", "ref_protected"] as const),
    maximumTimeoutSeconds: input.integer("maximum_timeout"),
  });
}

type WithoutGaps<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

function withoutGaps<T extends object>(values: T): WithoutGaps<T> {
  return Object.fromEntries(
    Object.entries(values).filter(([, value]) => value !== undefined),
  ) as WithoutGaps<T>;
}

/** What GitLab would say against a runner like this; undefined when it would be saved. */
export function validateRunner(runner: RunnerSettings): string | undefined {
  const { tags = [], runUntagged = true, maximumTimeoutSeconds = MIN_TIMEOUT_SECONDS } = runner;
  if (tags.length === 0 && !runUntagged)
    return "Tags list can not be empty when runner is not allowed to pick untagged jobs";
  if (tags.length > MAX_TAGS)
    return `Tags list Too many tags specified. Please limit the number of tags to ${MAX_TAGS}`;
  if (maximumTimeoutSeconds < MIN_TIMEOUT_SECONDS) return "Maximum timeout needs to be at least 10 minutes";
  if ((runner.description ?? "").length > MAX_TEXT)
    return `Description is too long (maximum is ${MAX_TEXT} characters)`;
  if ((runner.maintenanceNote ?? "").length > MAX_TEXT)
    return `Maintenance note is too long (maximum is ${MAX_TEXT} characters)`;
  return undefined;
}

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

const STALE_AFTER_MS = 7 * 24 * 3_600_000;

/** A runner in a list. Tags are not part of it. */
export function runnerEntity(core: Core, runner: Runner): Record<string, unknown> {
  const busy = core.jobs.all().some((job) => job.runner === runner && isProcessing(job));
  return {
    id: runner.id,
    description: runner.description,
    ip_address: null,
    active: !runner.paused,
    paused: runner.paused,
    is_shared: runner.type === "instance_type",
    runner_type: runner.type,
    name: typeof runner.info?.["name"] === "string" ? runner.info["name"] : null,
    online: runner.contactedAt === undefined ? null : core.runners.isOnline(runner),
    created_by: null,
    created_at: new Date(runner.createdAt).toISOString(),
    status: statusOf(core, runner),
    job_execution_status: busy ? "active" : "idle",
  };
}

/** `verify` alone does not make a runner online here: it must have asked for jobs. */
function statusOf(core: Core, runner: Runner): string {
  const heardAt = runner.contactedAt ?? runner.createdAt;
  if (heardAt <= core.clock.now() - STALE_AFTER_MS) return "stale";
  if (runner.contactedAt === undefined) return "never_contacted";
  return core.runners.isOnline(runner) && runner.creationFinished ? "online" : "offline";
}

/** One runner, with everything but its token. */
export function runnerDetails(core: Core, runner: Runner): Record<string, unknown> {
  const info = (name: string) => runner.info?.[name] ?? null;
  const project = runner.projectId === undefined ? undefined : core.projects.find(String(runner.projectId));
  const group = runner.groupPath === undefined ? undefined : core.groups.find(runner.groupPath);
  return {
    ...runnerEntity(core, runner),
    tag_list: runner.tags,
    run_untagged: runner.runUntagged,
    locked: runner.locked,
    maximum_timeout: runner.maximumTimeoutSeconds ?? null,
    access_level: runner.accessLevel,
    version: info("version"),
    revision: info("revision"),
    platform: info("platform"),
    architecture: info("architecture"),
    contacted_at: runner.contactedAt === undefined ? null : new Date(runner.contactedAt).toISOString(),
    maintenance_note: runner.maintenanceNote ?? null,
    projects: project ? [{ id: project.id, path_with_namespace: project.path }] : [],
    groups: group
      ? [{ id: group.id, name: group.path.split("/").at(-1), web_url: `${core.url()}/groups/${group.path}` }]
      : [],
  };
}
