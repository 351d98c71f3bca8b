import type { Clock } from "../base/clock.ts";
import type { Secret } from "../base/secret.ts";
import { MIB_BYTES } from "../base/units.ts";
import { type Answer, readAnswer } from "./answer.ts";
import { gitLabErrorFrom } from "./failure.ts";
import type { GitLabHttp, GitLabRequest } from "./http.ts";
import { jobAnswerOf, jobAnswerOfFailure } from "./job-request.ts";
import { jobStatusOf, traceStatusOf, unavailable } from "./job-status.ts";
import type {
  JobAnswer,
  JobRequest,
  JobUpdate,
  RenewedToken,
  RunnerApi,
  RunnerInfo,
  VerifiedRunner,
} from "./runner-api.ts";
import { renewedTokenOf, verifiedRunnerOf } from "./verify.ts";

/** GitLab holds a long poll for about 50 s; only a dead connection is silent for as long as this. */
const POLL_TIMEOUT_MS = 150_000;
/** GitLab refuses larger job requests with 413. */
const MAX_REQUEST_BYTES = 32 * 1024;
/** Far above any real job payload. */
const MAX_PAYLOAD_BYTES = 64 * MIB_BYTES;
const MAX_ANSWER_BYTES = MIB_BYTES;

export interface RunnerApiOptions {
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
