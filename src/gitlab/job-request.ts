import { describeError } from "../base/errors.ts";
import { Secret } from "../base/secret.ts";
import { type Answer, header, jsonOf } from "./answer.ts";
import { gitLabErrorFrom, gitLabErrorOf, tokenRefusal } from "./failure.ts";
import { JobPayload } from "./payload.ts";
import { requestedWaitMs } from "./requested-wait.ts";
import type { JobAnswer } from "./runner-api.ts";

const DOING = "asking for a job";

/** What an answer to `POST /jobs/request` means. */
export function jobAnswerOf(answer: Answer, now: number): JobAnswer {
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
export function jobAnswerOfFailure(cause: unknown): JobAnswer {
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
