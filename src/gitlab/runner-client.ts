/**
 * GitLab's runner API over HTTP: first the requests, then what each answer means. Polls and updates come back as values, since a loop
 * goes on whatever they are; verifying and renewing a token throw GitLabError. Facts: docs/gitlab.md.
 */
import { z } from "zod";
import type { Clock } from "../base/clock.ts";
import { describeError } from "../base/errors.ts";
import { Secret } from "../base/secret.ts";
import { MIB_BYTES } from "../base/units.ts";
import { type Answer, header, jsonOf, readAnswer, requestedWaitMs } from "./answer.ts";
import { type GitLabError, gitLabErrorFrom, gitLabErrorOf, tokenRefusal } from "./errors.ts";
import type { GitLabHttp, GitLabRequest } from "./http.ts";
import {
  type JobAnswer,
  JobPayload,
  type JobRequest,
  type JobUpdate,
  type RemoteJobStatus,
  type RenewedToken,
  type RunnerApi,
  type RunnerInfo,
  type TraceStatus,
  type VerifiedRunner,
} from "./runner-api.ts";

/** GitLab holds a long poll for about 50 s; only a dead connection is silent for as long as this. */
const POLL_TIMEOUT_MS = 150_000;
/** GitLab refuses larger job requests with 413. */
const MAX_REQUEST_BYTES = 32 * 1024;
/** Far above any real job payload. */
const MAX_PAYLOAD_BYTES = 64 * MIB_BYTES;
const MAX_ANSWER_BYTES = MIB_BYTES;

interface RunnerApiOptions {
  readonly http: GitLabHttp;
  readonly clock: Clock;
  /** Of this program, for the User-Agent. */
  readonly version: string;
  /** `s_` and 12 hex digits: which of the installations that share a runner token this is. */
  readonly systemId: string;
}

export function createRunnerApi({ http, clock, version, systemId }: RunnerApiOptions): RunnerApi {
  const common = { accept: "application/json", "user-agent": `firerunner/${version}` };

  async function send(request: GitLabRequest, maxBytes = MAX_ANSWER_BYTES): Promise<Answer> {
    const path = `/api/v4${request.path}`;
    const headers = { ...common, ...request.headers };
    return await readAnswer(await http.request({ ...request, path, headers }), maxBytes);
  }

  async function verify(token: Secret, signal?: AbortSignal, info?: RunnerInfo): Promise<VerifiedRunner> {
    // Without `info` GitLab would note, for most of an hour, that our installation's runner can do nothing.
    const body = json({ token: token.reveal(), ...(info ? { system_id: systemId, info } : {}) });
    try {
      const post = { method: "POST", path: "/runners/verify", ...body } as const;
      return verifiedRunnerOf(await send({ ...post, ...(signal ? { signal } : {}) }));
    } catch (error) {
      signal?.throwIfAborted();
      throw gitLabErrorFrom(error, "verifying the runner token");
    }
  }

  async function resetToken(token: Secret, signal?: AbortSignal): Promise<RenewedToken> {
    const post = { method: "POST", path: "/runners/reset_authentication_token" } as const;
    try {
      const body = json({ token: token.reveal() });
      return renewedTokenOf(await send({ ...post, ...body, ...(signal ? { signal } : {}) }));
    } catch (error) {
      signal?.throwIfAborted();
      throw gitLabErrorFrom(error, "renewing the runner token");
    }
  }

  async function requestJob({ token, lastUpdate, info }: JobRequest): Promise<JobAnswer> {
    const last = lastUpdate === undefined ? {} : { last_update: lastUpdate };
    const request = json({ token: token.reveal(), system_id: systemId, ...last, info });
    if (Buffer.byteLength(request.body) > MAX_REQUEST_BYTES) {
      const problem = "asking for a job: what the image says about its runner is longer than GitLab takes";
      return { kind: "wait", waitMs: 0, problem, fatal: true };
    }
    try {
      const post = { method: "POST", path: "/jobs/request", ...request } as const;
      const answer = await send({ ...post, headersTimeoutMs: POLL_TIMEOUT_MS }, MAX_PAYLOAD_BYTES);
      return jobAnswerOf(answer, clock.now());
    } catch (error) {
      return jobAnswerOfFailure(error);
    }
  }

  return {
    verify,
    resetToken,
    requestJob,
    async updateJob({ jobId, jobToken, state, failureReason }: JobUpdate) {
      const reason = failureReason === undefined ? {} : { failure_reason: failureReason };
      const body = json({ token: jobToken.reveal(), state, ...reason });
      try {
        return jobStatusOf(await send({ method: "PUT", path: `/jobs/${jobId}`, ...body }), clock.now());
      } catch (error) {
        return unavailable(gitLabErrorFrom(error, `updating job ${jobId}`));
      }
    },
    async appendTrace({ jobId, jobToken, startBytes, bytes }) {
      const headers = {
        "content-type": "text/plain",
        "content-range": `${startBytes}-${startBytes + bytes.length - 1}`,
        "job-token": jobToken.reveal(),
      };
      try {
        const patch = { method: "PATCH", path: `/jobs/${jobId}/trace`, headers, body: bytes } as const;
        return traceStatusOf(await send(patch), startBytes + bytes.length, clock.now());
      } catch (error) {
        return unavailable(gitLabErrorFrom(error, `writing the trace of job ${jobId}`));
      }
    },
  };
}

function json(value: object): { body: string; headers: Record<string, string> } {
  return { body: JSON.stringify(value), headers: { "content-type": "application/json" } };
}

const DOING = "asking for a job";

/** What an answer to `POST /jobs/request` means. */
function jobAnswerOf(answer: Answer, now: number): JobAnswer {
  if (answer.status === 201) return jobOf(answer);
  if (answer.status === 204) {
    const lastUpdate = header(answer, "x-gitlab-last-update");
    return lastUpdate ? { kind: "none", lastUpdate } : { kind: "none" };
  }
  if (answer.status === 413)
    return waitFor(answer, now, `${DOING}: GitLab refuses the request as too large (413)`, true);
  const location = header(answer, "location");
  const error = tokenRefusal(answer.status, DOING) ?? gitLabErrorOf(answer.status, location, DOING);
  return waitFor(answer, now, withHint(error), !error.retryable);
}

/** The request failed before an answer was there. If GitLab had decided on a job, it is lost to us without a trace. */
function jobAnswerOfFailure(cause: unknown): JobAnswer {
  const error = gitLabErrorFrom(cause, DOING);
  const problem = `${withHint(error)} (${describeError(cause)})`;
  return { kind: "wait", waitMs: 0, problem, fatal: !error.retryable };
}

function waitFor(answer: Answer, now: number, problem: string, fatal: boolean): JobAnswer {
  return { kind: "wait", waitMs: requestedWaitMs(answer.status, answer.headers, now), problem, fatal };
}

function withHint(error: { message: string; hint: string | undefined }): string {
  return error.hint === undefined ? error.message : `${error.message}; ${error.hint}`;
}

function jobOf(answer: Answer): JobAnswer {
  if (answer.cut !== undefined) {
    return unusable(
      idAndTokenOfCutText(answer.text),
      `the job's data was cut (${describeError(answer.cut)})`,
    );
  }
  const json = jsonOf(answer);
  if (json === undefined)
    return unusable(idAndTokenOfCutText(answer.text), "the job's data is not whole JSON");
  const parsed = JobPayload.safeParse(json);
  if (parsed.success) return { kind: "job", payload: parsed.data, raw: answer.text };
  const fields = parsed.error.issues.map((issue) => issue.path.join(".") || "(all)").slice(0, 5);
  return unusable(idAndTokenOf(json), `the job's data is not as expected at ${fields.join(", ")}`);
}

interface Identity {
  readonly id: unknown;
  readonly token: unknown;
}

function unusable({ id, token }: Identity, problem: string): JobAnswer {
  return {
    kind: "unusable",
    problem,
    ...(Number.isSafeInteger(id) && Number(id) > 0 ? { jobId: Number(id) } : {}),
    ...(typeof token === "string" && token !== "" ? { jobToken: new Secret(token) } : {}),
  };
}

function idAndTokenOf(json: unknown): Identity {
  const { id, token } = (typeof json === "object" && json !== null ? json : {}) as Partial<Identity>;
  return { id, token };
}

/** GitLab writes `id` and `token` first, so even a short piece of the answer names the job. */
function idAndTokenOfCutText(text: string): Identity {
  const start = /^\s*\{\s*"id"\s*:\s*(\d+)\s*,(?:\s*"token"\s*:\s*"([^"\\]+)")?/.exec(text);
  return { id: start?.[1] && Number(start[1]), token: start?.[2] };
}

type Unavailable = Extract<RemoteJobStatus, { kind: "unavailable" }>;

/** What an answer to `PUT /jobs/:id` means. */
function jobStatusOf(answer: Answer, now: number): RemoteJobStatus {
  if (answer.status === 200) return { kind: "accepted", status: statusOf(answer) };
  if (answer.status === 202) return { kind: "again", waitMs: intervalMsOf(answer) ?? 1_000 };
  return refusalOf(answer, now, "updating a job");
}

/** What an answer to `PATCH /jobs/:id/trace` means, for a patch that ended at `endBytes`. */
export function traceStatusOf(answer: Answer, endBytes: number, now: number): TraceStatus {
  const sizeBytes = traceSizeOf(answer);
  if (answer.status === 202) {
    const intervalMs = intervalMsOf(answer);
    return { kind: "accepted", sizeBytes: sizeBytes ?? endBytes, status: statusOf(answer), intervalMs };
  }
  if (answer.status === 416 && sizeBytes !== undefined) return { kind: "elsewhere", sizeBytes };
  return refusalOf(answer, now, "writing a trace");
}

/** No answer, or not now. `waitMs` is what was asked for; 0 when nothing was. */
function unavailable(error: GitLabError, waitMs = 0): Unavailable {
  return { kind: "unavailable", waitMs, problem: error.message };
}

function refusalOf(answer: Answer, now: number, doing: string): RemoteJobStatus & TraceStatus {
  if (answer.status === 403 || answer.status === 404) return { kind: "over", status: statusOf(answer) };
  const error = gitLabErrorOf(answer.status, header(answer, "location"), doing);
  return unavailable(error, requestedWaitMs(answer.status, answer.headers, now));
}

function statusOf(answer: Answer): string | undefined {
  return header(answer, "job-status");
}

function intervalMsOf(answer: Answer): number | undefined {
  const seconds = Number(header(answer, "x-gitlab-trace-update-interval"));
  return Number.isFinite(seconds) && seconds > 0 ? seconds * 1_000 : undefined;
}

/** `Range: 0-<size>`: GitLab names the size, not the last offset. */
function traceSizeOf(answer: Answer): number | undefined {
  const size = /^0-(\d+)$/.exec(header(answer, "range") ?? "")?.[1];
  return size === undefined ? undefined : Number(size);
}

/** Epoch ms of a time that GitLab may leave out or give as null; null for never. */
export const expiresAt = z
  .string()
  .nullish()
  .transform((text) => Date.parse(text ?? "") || null);

const Verified = z.looseObject({ id: z.number(), token_expires_at: expiresAt });
const Renewed = z.looseObject({ token: z.string().min(1), token_expires_at: expiresAt });

/** The runner that GitLab knows by the token, from the answer to `POST /runners/verify`. Throws GitLabError. */
function verifiedRunnerOf(answer: Answer): VerifiedRunner {
  const { id, token_expires_at } = parsed(answer, 200, Verified, "verifying the runner token");
  return { id, tokenExpiresAt: token_expires_at };
}

/** The runner's new token, from the answer to `POST /runners/reset_authentication_token`. Throws GitLabError. */
function renewedTokenOf(answer: Answer): RenewedToken {
  const { token, token_expires_at } = parsed(answer, 201, Renewed, "renewing the runner token");
  return { token: new Secret(token), tokenExpiresAt: token_expires_at };
}

function parsed<T>(answer: Answer, success: number, schema: z.ZodType<T>, doing: string): T {
  if (answer.cut !== undefined) throw answer.cut;
  const json = jsonOf(answer);
  const location = header(answer, "location");
  // A proxy or another program in GitLab's place answers in HTML, whatever the status.
  if (json === undefined && answer.status < 500) throw gitLabErrorOf(answer.status, location, doing);
  const refusal = tokenRefusal(answer.status, doing, "it");
  if (refusal !== undefined) throw refusal;
  const body = schema.safeParse(json);
  if (answer.status !== success || !body.success) throw gitLabErrorOf(answer.status, location, doing);
  return body.data;
}
