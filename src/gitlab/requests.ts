/** Which requests GitLab gets and how it answers: by kind of request, never by what it is about. */
import type { Dispatcher } from "undici";
import type { GitLabHttp } from "./http.ts";

/** What is asked for; `git` is all of a guest's git, its large files included. */
type Endpoint =
  | "jobs_request"
  | "job_update"
  | "job_trace"
  | "job_artifacts"
  | "runner_verify"
  | "projects"
  | "project_jobs"
  | "runners"
  | "hooks"
  | "token"
  | "git"
  | "other";

/** In order; the first that fits. Paths are without GitLab's own base, and without the query. */
const endpoints: readonly (readonly [RegExp, Endpoint])[] = [
  [/^\/api\/v4\/jobs\/request$/, "jobs_request"],
  [/^\/api\/v4\/jobs\/\d+\/trace$/, "job_trace"],
  [/^\/api\/v4\/jobs\/\d+\/artifacts/, "job_artifacts"],
  [/^\/api\/v4\/jobs\/\d+$/, "job_update"],
  [/^\/api\/v4\/runners\/verify$/, "runner_verify"],
  [/^\/api\/v4\/personal_access_tokens\//, "token"],
  [/^\/api\/v4\/(?:projects|groups)\/[^/]+\/hooks/, "hooks"],
  [/^\/api\/v4\/(?:(?:projects|groups)\/[^/]+\/runners|runners|user\/runners)/, "runners"],
  [/^\/api\/v4\/projects\/[^/]+\/jobs/, "project_jobs"],
  [/^\/api\/v4\/(?:projects|groups)(?:\/|$)/, "projects"],
  [/\/info\/refs$/, "git"],
  [/\.git\/(?:info|git-upload-pack|git-receive-pack|gitlab-lfs|objects|HEAD)/, "git"],
];

export function endpointOf(path: string): Endpoint {
  const [bare = ""] = path.split("?", 1);
  return endpoints.find(([pattern]) => pattern.test(bare))?.[1] ?? "other";
}

/** Hears of every request once it is answered; `status` 0 when it was not, and of none that its sender gave up. Must not throw. */
export type RequestListener = (endpoint: Endpoint, status: number) => void;

/** The same client, which tells of every request. */
export function watchRequests(http: GitLabHttp, listener: RequestListener): GitLabHttp {
  function watched<Wanted extends Parameters<GitLabHttp["request"]>[0]>(
    send: (wanted: Wanted) => Promise<Dispatcher.ResponseData>,
  ) {
    return async (wanted: Wanted) => {
      try {
        const answer = await send(wanted);
        listener(endpointOf(wanted.path), answer.statusCode);
        return answer;
      } catch (error) {
        if (!wanted.signal?.aborted) listener(endpointOf(wanted.path), 0);
        throw error;
      }
    };
  }
  return { ...http, request: watched(http.request), forward: watched(http.forward) };
}
