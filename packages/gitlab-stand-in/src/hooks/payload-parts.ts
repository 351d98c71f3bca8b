import type { Job, Pipeline, Project, Runner } from "../model.ts";
import type { JobStatus } from "../progress.ts";

/** What payloads need to know beside the job itself. */
export interface PayloadSetting {
  readonly serverUrl: string;
  /** Dates as GitLab 19 sends them, else as Ruby prints them, without the `_iso` fields. */
  readonly modern: boolean;
  readonly now: number;
  status(pipeline: Pipeline): JobStatus;
  jobs(pipeline: Pipeline): Job[];
}

/** `2026-01-31T10:20:30.000Z`, or from an older GitLab `2026-01-31 10:20:30 UTC`. */
export function date(at: number | undefined, { modern }: PayloadSetting): string | null {
  if (at === undefined) return null;
  const iso = new Date(at).toISOString();
  return modern ? iso : `${iso.slice(0, 10)} ${iso.slice(11, 19)} UTC`;
}

export function iso(at: number | undefined): string | null {
  return at === undefined ? null : new Date(at).toISOString();
}

export function seconds(from: number | undefined, to: number | undefined): number | null {
  return from === undefined || to === undefined ? null : (to - from) / 1_000;
}

export const payloadUser = {
  id: 1,
  name: "Demo",
  username: "demo",
  avatar_url: null,
  email: "[REDACTED]",
};

/** The runner's own tags are there, never the job's. */
export function runnerPart(runner: Runner | undefined): Record<string, unknown> | null {
  if (!runner) return null;
  return {
    id: runner.id,
    description: runner.description,
    runner_type: runner.type,
    active: !runner.paused,
    is_shared: runner.type === "instance_type",
    tags: runner.tags,
  };
}

export function projectPart(project: Project, serverUrl: string): Record<string, unknown> {
  return {
    id: project.id,
    name: nameOf(project),
    description: null,
    web_url: `${serverUrl}/${project.path}`,
    avatar_url: null,
    git_ssh_url: sshUrl(project, serverUrl),
    git_http_url: `${serverUrl}/${project.path}.git`,
    namespace: project.path.split("/").at(-2) ?? "",
    visibility_level: 0,
    path_with_namespace: project.path,
    default_branch: project.defaultBranch,
    ci_config_path: null,
  };
}

export function nameOf(project: Project): string {
  return project.path.split("/").at(-1) ?? project.path;
}

export function sshUrl(project: Project, serverUrl: string): string {
  return `git@${new URL(serverUrl).hostname}:${project.path}.git`;
}

interface Span {
  readonly startedAt: number | undefined;
  readonly finishedAt: number | undefined;
}

/** From the first start to the last end of a pipeline's jobs; the end only when all have ended. */
export function spanOf(pipeline: Pipeline, setting: PayloadSetting): Span {
  const jobs = setting.jobs(pipeline);
  const starts = jobs.flatMap((job) => job.startedAt ?? []);
  const ends = jobs.flatMap((job) => job.finishedAt ?? []);
  const isOver = ["success", "failed", "canceled", "skipped"].includes(setting.status(pipeline));
  return {
    startedAt: starts.length === 0 ? undefined : Math.min(...starts),
    finishedAt: isOver && ends.length > 0 ? Math.max(...ends) : undefined,
  };
}
