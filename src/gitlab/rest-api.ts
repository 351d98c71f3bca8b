/** GitLab's REST API, as far as FireRunner uses it with an access token. Facts: docs/gitlab.md. */
/** What an access token must be allowed for jobs by tag. Facts: docs/gitlab.md. */
import type { Secret } from "../base/secret.ts";
import { HOUR_MS } from "../base/units.ts";

/** Where runners are made and hooks live. `path` is for people and `id` for requests; an instance has neither. */
export type Scope =
  | { readonly kind: "group"; readonly id: number; readonly path: string }
  | { readonly kind: "project"; readonly id: number; readonly path: string }
  | { readonly kind: "instance" };

/** What the configuration names: a path or an id as text. */
export type NamedScope =
  | { readonly kind: "group" | "project"; readonly name: string }
  | { readonly kind: "instance" };

export interface ApiJob {
  readonly id: number;
  readonly name: string;
  readonly status: string;
  /** Sorted by GitLab, as spelled. */
  readonly tags: readonly string[];
  /** Epoch ms. */
  readonly createdAt: number;
  readonly webUrl: string;
  readonly ref: string;
}

export interface ApiProject {
  readonly id: number;
  readonly path: string;
}

export interface ApiRunner {
  readonly id: number;
  readonly description: string;
  readonly paused: boolean;
  readonly online: boolean | undefined;
}

export interface NewApiRunner {
  readonly scope: Scope;
  readonly description: string;
  readonly tags: readonly string[];
  readonly protected: boolean;
}

export interface RunnerTokenGiven {
  readonly token: Secret;
  /** Epoch ms; null for ever. */
  readonly tokenExpiresAt: number | null;
}

/** What an access token is and may do. */
export interface TokenFacts {
  readonly name: string;
  readonly scopes: readonly string[];
  /** Epoch ms of the end of its last day (UTC); null for ever. */
  readonly expiresAt: number | null;
  readonly active: boolean;
  readonly userId: number;
  readonly username: string;
  /** Only administrators are told that they are. */
  readonly isAdmin: boolean;
}

export interface HookSettings {
  readonly url: string;
  readonly signingToken: Secret | undefined;
  readonly token: Secret | undefined;
}

export interface ApiHook {
  readonly id: number;
  readonly url: string;
  /** `executable`, `temporarily_disabled`, `disabled`; undefined for a GitLab that does not say. */
  readonly alertStatus: string | undefined;
  /** Epoch ms. */
  readonly disabledUntil: number | undefined;
  readonly jobEvents: boolean;
  readonly pipelineEvents: boolean;
  readonly sslVerification: boolean;
  /** Undefined: a GitLab older than 19.0, which ignores signing tokens. */
  readonly signingTokenPresent: boolean | undefined;
}

/** How much of the API's rate limit is left, by the `RateLimit-*` headers of the last answer. */
export interface RateBudget {
  readonly limit: number;
  readonly remaining: number;
  /** Epoch ms. */
  readonly resetsAt: number;
}

/**
 * Every call throws GitLabError: `gitlab_api_token` (401), `gitlab_forbidden` (403; says which scope or role is missing),
 * `gitlab_not_found`, `gitlab_refused` (400, 422, with GitLab's words), `gitlab_rate_limited` (429), `gitlab_unavailable`,
 * `gitlab_unreachable`, `gitlab_wrong_url`, `gitlab_certificate`. Those that pass by themselves are `retryable`, with `waitMs` where
 * GitLab names a time. Lists follow GitLab's pages on the same origin only, and end at a limit.
 */
export interface GitLabRest {
  readonly budget: RateBudget | undefined;

  tokenFacts(signal?: AbortSignal): Promise<TokenFacts>;
  /** 10 guest … 40 maintainer, 50 owner; undefined when the user is no member. */
  accessLevel(scope: Scope, userId: number, signal?: AbortSignal): Promise<number | undefined>;
  findScope(named: NamedScope, signal?: AbortSignal): Promise<Scope>;
  /** Projects of a group with its subgroups, the one project, or all the token's user is a member of; without archived ones. */
  projectsOf(scope: Scope, signal?: AbortSignal): Promise<ApiProject[]>;
  findProject(name: string, signal?: AbortSignal): Promise<ApiProject>;

  pendingJobs(projectId: number, signal?: AbortSignal): Promise<ApiJob[]>;
  job(projectId: number, jobId: number, signal?: AbortSignal): Promise<ApiJob>;
  /** Has a job that ended run anew, as a job of its own, which is returned. `project` is its path. */
  retryJob(project: string, jobId: number, signal?: AbortSignal): Promise<ApiJob>;

  /** Never retried by itself: an answer lost may be a runner made. */
  createRunner(
    runner: NewApiRunner,
    signal?: AbortSignal,
  ): Promise<RunnerTokenGiven & { readonly id: number }>;
  /**
   * Runners made for this scope, without those that merely serve it. GitLab lists a group's together with those of the groups above
   * and does not say whose each is: tell ours by the description.
   */
  runnersOf(scope: Scope, signal?: AbortSignal): Promise<ApiRunner[]>;
  /** Sets the tags and the protection of a runner, and that it takes no untagged jobs. One that is gone is left gone. */
  restoreRunner(
    id: number,
    settings: Pick<NewApiRunner, "tags" | "protected">,
    signal?: AbortSignal,
  ): Promise<void>;
  /** One that is gone already counts as deleted. */
  deleteRunner(id: number, signal?: AbortSignal): Promise<void>;
  /** True while a job that this runner has taken is running or being canceled. False for a runner that is gone. */
  hasRunningJobs(id: number, signal?: AbortSignal): Promise<boolean>;

  hooksOf(scope: Scope, signal?: AbortSignal): Promise<ApiHook[]>;
  createHook(scope: Scope, settings: HookSettings, signal?: AbortSignal): Promise<ApiHook>;
  updateHook(scope: Scope, id: number, settings: HookSettings, signal?: AbortSignal): Promise<ApiHook>;
  /** GitLab sends its own test event now. Throws `gitlab_refused` with what GitLab says of the answer it got. */
  testHook(
    scope: Scope,
    id: number,
    event: "job_events" | "pipeline_events",
    signal?: AbortSignal,
  ): Promise<void>;
}

/** The narrowest scope for each thing that is done with the token; `api` covers them all. */
export const neededScopes = {
  read_api: "to find waiting jobs",
  create_runner: "to make runners",
  manage_runner: "to delete runners",
} as const;

/** GitLab's access levels for making runners, and hooks. */
export const neededRoles = {
  project: { level: 40, role: "Maintainer" },
  group: { level: 50, role: "Owner" },
} as const;

/** An end that is nearer is worth a word: time enough to come back from holidays. */
export const TOKEN_ENDS_SOON_MS = 14 * 24 * HOUR_MS;
