import type { Input } from "./input.ts";

const MAX_TAGS = 50;
const MAX_TEXT = 1_024;
const MIN_TIMEOUT_SECONDS = 600;

/** What a client may say of a runner, when it is made and later. */
export interface RunnerSettings {
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
