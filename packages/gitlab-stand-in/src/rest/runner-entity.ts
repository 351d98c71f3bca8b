import type { Core } from "../core.ts";
import { isProcessing, type Runner } from "../model.ts";

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
