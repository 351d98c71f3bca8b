import { expect, test } from "vitest";
import type { GitLabHttp } from "./http.ts";
import { endpointOf, watchRequests } from "./requests.ts";

test.each([
  ["/api/v4/jobs/request", "jobs_request"],
  ["/api/v4/jobs/4711", "job_update"],
  ["/api/v4/jobs/4711/trace?debug_trace=false", "job_trace"],
  ["/api/v4/jobs/4711/artifacts?artifact_format=zip", "job_artifacts"],
  ["/api/v4/runners/verify", "runner_verify"],
  ["/api/v4/runners/reset_authentication_token", "runners"],
  ["/api/v4/user/runners", "runners"],
  ["/api/v4/runners/7", "runners"],
  ["/api/v4/runners/7/jobs?status=running&per_page=1", "runners"],
  ["/api/v4/groups/9/runners?page=2", "runners"],
  ["/api/v4/projects/1/hooks/3", "hooks"],
  ["/api/v4/groups/9/hooks", "hooks"],
  ["/api/v4/projects/1/jobs?scope[]=pending", "project_jobs"],
  ["/api/v4/projects/1/jobs/4711", "project_jobs"],
  ["/api/v4/groups/9/projects?include_subgroups=true", "projects"],
  ["/api/v4/groups/a%2Fb", "projects"],
  ["/api/v4/personal_access_tokens/self", "token"],
  ["/group/project.git/info/refs?service=git-upload-pack", "git"],
  ["/group/project/info/refs", "git"],
  ["/group/project.git/git-upload-pack", "git"],
  ["/group/project.git/info/lfs/objects/batch", "git"],
  ["/group/project.git/gitlab-lfs/objects/aa/1", "git"],
  ["/api/v4/version", "other"],
  ["/api/v4/jobs/request/../../etc", "other"],
  ["", "other"],
])("%s is counted as %s", (path, endpoint) => {
  expect(endpointOf(path)).toBe(endpoint);
});

test("every answer and every failure is told, and nothing of a request that its sender gave up", async () => {
  const told: unknown[] = [];
  const answers = [async () => ({ statusCode: 204 }), async () => Promise.reject(new Error("reset"))];
  const send = async () => await answers[0]?.();
  const http = { request: send, forward: send } as unknown as GitLabHttp;
  const watched = watchRequests(http, (...news) => told.push(news));
  const get = { method: "GET", path: "/api/v4/jobs/1" } as const;

  await watched.request(get);
  await watched.forward({ ...get, path: "/g/p.git/info/refs" });
  answers.shift();
  await expect(watched.request(get)).rejects.toThrow("reset");
  await expect(watched.request({ ...get, signal: AbortSignal.abort() })).rejects.toThrow("reset");

  expect(told).toEqual([
    ["job_update", 204],
    ["git", 204],
    ["job_update", 0],
  ]);
});
