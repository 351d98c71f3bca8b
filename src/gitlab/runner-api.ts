import { z } from "zod";
import type { Secret } from "../base/secret.ts";

/** What `info` of a job request says about the runner that will really run the job. JSON, passed on as it is. */
export type RunnerInfo = Readonly<Record<string, unknown>>;

export interface JobRequest {
  readonly token: Secret;
  /** Echo of the last `X-GitLab-Last-Update`; with it GitLab holds the request until something changes (long poll). */
  readonly lastUpdate?: string;
  readonly info: RunnerInfo;
}

/** GitLab's answer to a job request. Errors of transport and status come as `wait`, so that no poll loop needs a catch. */
export type JobAnswer =
  | { readonly kind: "job"; readonly payload: JobPayload; readonly raw: string }
  /**
   * 201 with a body that is cut or not understood: a job is ours in GitLab's eyes and must be failed there. Its id and token
   * are given as far as they can be read.
   */
  | {
      readonly kind: "unusable";
      readonly jobId?: number;
      readonly jobToken?: Secret;
      readonly problem: string;
    }
  /** 204. `lastUpdate` only when GitLab sent one. Ask again at once. */
  | { readonly kind: "none"; readonly lastUpdate?: string }
  /**
   * Ask again later: not before `waitMs`, which is what Retry-After and RateLimit-* ask for (0: GitLab named no time, back off).
   * `problem` says why in words; `fatal`: it will not go away until somebody changes something.
   */
  | { readonly kind: "wait"; readonly waitMs: number; readonly problem: string; readonly fatal: boolean };

type JobUpdateState = "running" | "success" | "failed";

export interface JobUpdate {
  readonly jobId: number;
  readonly jobToken: Secret;
  readonly state: JobUpdateState;
  /** A value GitLab knows, such as `runner_system_failure`; only with `failed`. */
  readonly failureReason?: string;
}

/** GitLab's word on a job after a request that carries its token. */
export type RemoteJobStatus =
  /** Still ours; `status` is `Job-Status` (`running`, `canceling`, or the new end state after an update). */
  | { readonly kind: "accepted"; readonly status: string | undefined }
  /** 202 of a final update: accepted, but send it again after `waitMs`. */
  | { readonly kind: "again"; readonly waitMs: number }
  /** 403/404: GitLab takes nothing more for this job. `status` is `Job-Status` when it was given. */
  | { readonly kind: "over"; readonly status: string | undefined }
  /** Not answered or not now (5xx, 429, network): try later. */
  | { readonly kind: "unavailable"; readonly waitMs: number; readonly problem: string };

/** Answer to an append: `sizeBytes` is what GitLab's trace now holds. */
export type TraceStatus =
  | {
      readonly kind: "accepted";
      readonly sizeBytes: number;
      readonly status: string | undefined;
      readonly intervalMs: number | undefined;
    }
  /** 416: GitLab holds `sizeBytes`; continue from there. */
  | { readonly kind: "elsewhere"; readonly sizeBytes: number }
  | { readonly kind: "over"; readonly status: string | undefined }
  | { readonly kind: "unavailable"; readonly waitMs: number; readonly problem: string };

export interface VerifiedRunner {
  readonly id: number;
  /** Epoch ms; null for ever. */
  readonly tokenExpiresAt: number | null;
}

export interface RenewedToken {
  readonly token: Secret;
  /** Epoch ms; null for ever. */
  readonly tokenExpiresAt: number | null;
}

/** GitLab's runner API (`/api/v4`), as FireRunner itself uses it. Protocol facts: docs/gitlab.md. */
export interface RunnerApi {
  /**
   * `POST /runners/verify`. Throws GitLabError: wrong token, wrong URL, bad certificate, down, in maintenance. GitLab keeps what
   * the first call of an hour says about the runner, so give `info` wherever it is known.
   */
  verify(token: Secret, signal?: AbortSignal, info?: RunnerInfo): Promise<VerifiedRunner>;
  /**
   * `POST /runners/reset_authentication_token`: a new token for the runner; the old one is void at once. Throws GitLabError. Never
   * tried again by itself: an answer lost is a token lost.
   */
  resetToken(token: Secret, signal?: AbortSignal): Promise<RenewedToken>;
  /** `POST /jobs/request`. Never aborted: an answer lost is a job lost. */
  requestJob(request: JobRequest): Promise<JobAnswer>;
  /** `PUT /jobs/:id`. `running` is a heartbeat and the way to hear of a cancel. */
  updateJob(update: JobUpdate): Promise<RemoteJobStatus>;
  /** `PATCH /jobs/:id/trace` with `bytes` at offset `startBytes`. */
  appendTrace(append: {
    readonly jobId: number;
    readonly jobToken: Secret;
    readonly startBytes: number;
    readonly bytes: Uint8Array;
  }): Promise<TraceStatus>;
}

const Variable = z.looseObject({
  key: z.string(),
  value: z
    .string()
    .nullish()
    .transform((value) => value ?? ""),
  masked: z.boolean().nullish(),
});

const Dependency = z.looseObject({ id: z.number(), name: z.string(), token: z.string() });

/**
 * The fields of a job payload (`201` of `POST /jobs/request`) that FireRunner reads. Every other field is kept and passed on
 * to the guest untouched: parse for reading, but change and forward the original JSON (see `rewritePayload` in relay/).
 */
export const JobPayload = z.looseObject({
  id: z.number().int().positive(),
  token: z.string().min(1),
  job_info: z.looseObject({
    name: z.string(),
    stage: z.string().nullish(),
    project_id: z.number().nullish(),
    project_name: z.string().nullish(),
    project_full_path: z.string().nullish(),
    pipeline_id: z.unknown().optional(),
    /** For the statistics; a job is not refused for it. */
    time_in_queue_seconds: z.number().nullish().catch(null),
  }),
  git_info: z.looseObject({ repo_url: z.string(), protected: z.boolean().nullish().catch(null) }).nullish(),
  runner_info: z.looseObject({ timeout: z.number().nullish() }).nullish(),
  variables: z.array(Variable).nullish(),
  image: z.looseObject({ name: z.string() }).nullish(),
  services: z.array(z.looseObject({ name: z.string() })).nullish(),
  /** A shape that is not known is no reason to refuse the job. */
  cache: z
    .array(z.looseObject({ key: z.unknown() }))
    .nullish()
    .catch(null),
  dependencies: z.array(Dependency).nullish(),
  /** Where GitLab makes traces itself, the one that the job belongs to. A shape that is not known is no reason to refuse the job. */
  features: z
    .looseObject({
      tracing: z
        .looseObject({ trace_id: z.unknown().optional(), span_parent_id: z.unknown().optional() })
        .nullish()
        .catch(null),
    })
    .nullish()
    .catch(null),
  credentials: z.array(z.looseObject({ password: z.string().nullish() })).nullish(),
});
export type JobPayload = z.infer<typeof JobPayload>;
