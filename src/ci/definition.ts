import type { Place } from "./errors.ts";

/** When a job runs, seen from the jobs before it. `manual` jobs are never started by the stand-in. */
type JobWhen = "on_success" | "on_failure" | "always" | "manual";

interface ArtifactDefinition {
  readonly name?: string;
  readonly paths: readonly string[];
  readonly exclude: readonly string[];
  readonly untracked: boolean;
  readonly when: "on_success" | "on_failure" | "always";
  /** In GitLab's words (`1 week`); GitLab reads it, the runner passes it on. */
  readonly expireIn?: string;
}

export interface CacheDefinition {
  /** As it stands in the file, or made of what last changed these files. */
  readonly key: string | { readonly files: readonly string[]; readonly prefix?: string };
  readonly paths: readonly string[];
  readonly untracked: boolean;
  /** `pull-push`, `pull`, `push`, or a variable that says one. */
  readonly policy: string;
  readonly when: "on_success" | "on_failure" | "always";
  /** Shared with branches that are not protected. */
  readonly unprotect: boolean;
  readonly fallbackKeys: readonly string[];
}

interface NeedDefinition {
  readonly job: string;
  readonly artifacts: boolean;
  readonly optional: boolean;
}

interface RetryDefinition {
  /** Further tries after the first: 0 to 2. */
  readonly max: number;
  /** Failure reasons that are tried again; `always` stands for all. */
  readonly when: readonly string[];
}

/** A container image as a job names it; variables are the runner's to fill in. */
export interface ImageDefinition {
  readonly name: string;
  readonly entrypoint?: readonly string[] | undefined;
  readonly pullPolicy?: readonly string[] | undefined;
  readonly docker?:
    | { readonly platform?: string | undefined; readonly user?: string | undefined }
    | undefined;
}

export interface ServiceDefinition extends ImageDefinition {
  /** One or more, apart by spaces or commas. */
  readonly alias?: string | undefined;
  readonly command?: readonly string[] | undefined;
  readonly variables?: Readonly<Record<string, string>> | undefined;
}

/** One job of a `.gitlab-ci.yml` after `extends`, `default`, `rules` and references have been worked in; of `parallel` one of the jobs. */
export interface JobDefinition {
  readonly name: string;
  readonly stage: string;
  /** `before_script` and `script`, joined as GitLab joins them. */
  readonly script: readonly string[];
  readonly afterScript: readonly string[];
  readonly variables: Readonly<Record<string, string>>;
  readonly tags: readonly string[];
  /** Undefined: the job waits for all earlier stages. Empty: it waits for nothing. */
  readonly needs?: readonly NeedDefinition[];
  /** Jobs whose artifacts it fetches. Undefined: all that `needs` or the earlier stages offer. */
  readonly dependencies?: readonly string[];
  readonly artifacts?: ArtifactDefinition;
  readonly caches?: readonly CacheDefinition[];
  readonly allowFailure: boolean | { readonly exitCodes: readonly number[] };
  readonly when: JobWhen;
  readonly timeoutSeconds: number;
  readonly retry: RetryDefinition;
  readonly image?: ImageDefinition | undefined;
  readonly services?: readonly ServiceDefinition[] | undefined;
}

/** A keyword, or a whole job, that was left out, and where it stands. */
export interface Notice extends Place {
  readonly job?: string;
  readonly message: string;
}

export interface PipelineDefinition {
  readonly stages: readonly string[];
  /** Those that GitLab adds to the pipeline. */
  readonly jobs: readonly JobDefinition[];
  readonly notices: readonly Notice[];
  /** Jobs of the file that GitLab does not start for this push: their `rules`, `only` or `except` say so. */
  readonly notStarted?: readonly string[];
  /** Why there is no job at all, in words. */
  readonly whyEmpty?: string;
}

export const DEFAULT_JOB_TIMEOUT_SECONDS = 3_600;

/** A job with everything at its default but `given`. For jobs that are made without a YAML file. */
export function jobDefinition(given: Partial<JobDefinition> & { name: string }): JobDefinition {
  return {
    stage: "test",
    script: ["true"],
    afterScript: [],
    variables: {},
    tags: [],
    allowFailure: false,
    when: "on_success",
    timeoutSeconds: DEFAULT_JOB_TIMEOUT_SECONDS,
    retry: { max: 0, when: ["always"] },
    ...given,
  };
}
