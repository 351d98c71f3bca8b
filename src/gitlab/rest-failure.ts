import { type Answer, header, jsonOf, messageOf, requestedWaitMs } from "./answer.ts";
import { GitLabError, gitLabErrorOf } from "./errors.ts";

/** One request, with what its failure has to be explained by. */
export interface RestCall {
  readonly method: "GET" | "POST" | "PUT" | "DELETE";
  /** Below `/api/v4`, with the query. */
  readonly path: string;
  readonly body?: object;
  /** What we are doing, for the message of an error. */
  readonly doing: string;
  /** The narrowest scope of an access token that allows the call; `api` always does. */
  readonly scope: "api" | "read_api" | "read_user" | "create_runner" | "manage_runner";
  /** What the token's user needs besides, such as `the role Owner in group x`. */
  readonly role?: string;
  /** What a 404 means here and what to do. */
  readonly missing?: string;
  /** What to do about a refusal (400, 422 and the like), by GitLab's words. */
  readonly advise?: (words: string) => string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** An answer that is no success, as an error that says what to change. */
export function restErrorOf(answer: Answer, call: RestCall, now: number): GitLabError {
  return passingError(answer, call, now) ?? strangeError(answer, call) ?? refusal(answer, call);
}

/** Answers that somebody in front of GitLab may give too, in any form: they are judged by the status alone. */
function passingError(answer: Answer, call: RestCall, now: number): GitLabError | undefined {
  const waitMs = requestedWaitMs(answer.status, answer.headers, now);
  if (answer.status === 429) {
    return new GitLabError(
      "gitlab_rate_limited",
      `${call.doing}: too many API requests (429)${says(answer)}`,
      {
        hint: "it is asked again later; if it stays so, let webhook.poll ask less often or raise GitLab's limit",
        retryable: true,
        waitMs,
      },
    );
  }
  if (answer.status < 500 && answer.status !== 408 && answer.status !== 409) return undefined;
  const { message } = gitLabErrorOf(answer.status, undefined, call.doing);
  return new GitLabError("gitlab_unavailable", `${message}${says(answer)}`, { retryable: true, waitMs });
}

/** GitLab's API answers in JSON, and sends elsewhere only for what was renamed. */
function strangeError(answer: Answer, call: RestCall): GitLabError | undefined {
  const location = header(answer, "location");
  if (answer.status >= 300 && answer.status < 400) {
    return isRenamed(location, call) ? renamed(call) : gitLabErrorOf(answer.status, location, call.doing);
  }
  return jsonOf(answer) === undefined ? gitLabErrorOf(answer.status, undefined, call.doing) : undefined;
}

/** GitLab points from an old path to the same call by id; a proxy that wants https points to the same path. */
function isRenamed(location: string | undefined, call: RestCall): boolean {
  const path = URL.parse(location ?? "", "http://relative.invalid")?.pathname ?? "";
  const wanted = call.path.split("?")[0] ?? "";
  return /\/api\/v4\/(projects|groups)\/\d+(\/|$)/.test(path) && !path.endsWith(`/api/v4${wanted}`);
}

function renamed(call: RestCall): GitLabError {
  return new GitLabError("gitlab_not_found", `${call.doing}: it was renamed or moved in GitLab`, {
    hint: "write its new path, or its id, into the configuration",
  });
}

function refusal(answer: Answer, call: RestCall): GitLabError {
  switch (answer.status) {
    case 401:
      return new GitLabError(
        "gitlab_api_token",
        `${call.doing}: GitLab does not take the API token (401)${says(answer)}`,
        {
          hint: "it is wrong, revoked or expired: create an access token in GitLab, put it where webhook.apiToken is configured, and reload",
        },
      );
    case 403:
      return forbidden(answer, call);
    case 404:
      return new GitLabError(
        "gitlab_not_found",
        `${call.doing}: GitLab does not find it (404)${says(answer)}`,
        {
          hint: call.missing ?? "it was deleted, or the API token's user may not see it",
        },
      );
    default:
      return refused(answer, call);
  }
}

function forbidden(answer: Answer, { doing, scope, role }: RestCall): GitLabError {
  const json = jsonOf(answer) as { error?: unknown } | null;
  if (json?.error === "insufficient_scope") {
    const lacks = scope === "api" ? "the scope api" : `the scope ${scope} (api includes it)`;
    return new GitLabError("gitlab_forbidden", `${doing}: the API token lacks ${lacks}${says(answer)}`, {
      hint: `create an access token that has the scope ${scope} as well, and put it where webhook.apiToken is configured`,
    });
  }
  return new GitLabError("gitlab_forbidden", `${doing}: GitLab does not allow it (403)${says(answer)}`, {
    hint: role === undefined ? "give the API token's user a higher role" : `the API token needs ${role}`,
  });
}

function refused(answer: Answer, call: RestCall): GitLabError {
  const message = `${call.doing}: GitLab refuses it (${answer.status})${says(answer)}`;
  const hint = call.advise?.(messageOf(answer));
  return new GitLabError("gitlab_refused", message, hint === undefined ? {} : { hint });
}

function says(answer: Answer): string {
  const words = messageOf(answer);
  return words === "" ? "" : `; it says: ${words}`;
}
