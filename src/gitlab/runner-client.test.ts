import { afterEach, describe, expect, test } from "vitest";
import { aPayload } from "../../test/builders/payload.ts";
import { answer, type Handler, startHttpServer, type TestServer } from "../../test/servers/http-server.ts";
import { systemClock } from "../base/clock.ts";
import { Secret } from "../base/secret.ts";
import { createGitLabHttp, type GitLabHttp } from "./http.ts";
import type { RunnerApi } from "./runner-api.ts";
import { createRunnerApi } from "./runner-client.ts";

const token = new Secret("glrt-token-of-the-runner");
const jobToken = new Secret("glcbt-token-of-the-job");
const info = { name: "gitlab-runner", executor: "shell", features: { trace_checksum: true } };

const open: AsyncDisposable[] = [];
afterEach(async () => {
  for (const each of open.splice(0).toReversed()) await each[Symbol.asyncDispose]();
});

function apiFor(http: GitLabHttp): RunnerApi {
  open.push({ [Symbol.asyncDispose]: () => http.dispatcher.destroy() });
  return createRunnerApi({ http, clock: systemClock, version: "1.2.3", systemId: "s_0123456789ab" });
}

async function gitLab(handle: Handler, path = ""): Promise<{ api: RunnerApi; server: TestServer }> {
  const server = await startHttpServer(handle);
  open.push(server);
  return { server, api: apiFor(createGitLabHttp({ url: server.url + path })) };
}

/** An API whose GitLab answers every request in one way. */
async function answering(status: number, body?: unknown, headers: Record<string, string> = {}) {
  return await gitLab((_request, response) => answer(response, status, body, headers));
}

describe("requestJob", () => {
  test("says who asks, for what runner, and what it has seen last", async () => {
    const { api, server } = await answering(204, undefined, { "X-GitLab-Last-Update": "b" });

    await api.requestJob({ token, info, lastUpdate: "a" });

    expect(server.seen).toHaveLength(1);
    expect(server.seen[0]).toMatchObject({
      method: "POST",
      path: "/api/v4/jobs/request",
      headers: {
        "content-type": "application/json",
        accept: "application/json",
        "user-agent": "firerunner/1.2.3",
      },
    });
    expect(server.seen[0]?.json).toEqual({
      token: token.reveal(),
      system_id: "s_0123456789ab",
      last_update: "a",
      info,
    });
  });

  test("leaves last_update out when there is none, so that GitLab answers at once", async () => {
    const { api, server } = await answering(204);

    await api.requestJob({ token, info });

    expect(server.seen[0]?.json).not.toHaveProperty("last_update");
  });

  test("works for a GitLab that lives under a path", async () => {
    const { api, server } = await gitLab((_request, response) => answer(response, 204), "/gitlab/");

    await api.requestJob({ token, info });

    expect(server.seen[0]?.path).toBe("/gitlab/api/v4/jobs/request");
  });

  test("gives a job with GitLab's own bytes", async () => {
    const raw = JSON.stringify({ ...aPayload({ id: 12 }), newer_field: { kept: [1.0, 2e3] } }, null, 1);
    const { api } = await gitLab((_request, response) =>
      response.writeHead(201, { "content-type": "application/json" }).end(raw),
    );

    const job = await api.requestJob({ token, info });

    expect(job).toMatchObject({ kind: "job", payload: { id: 12 }, raw });
  });

  test.each([
    ["with", { "X-GitLab-Last-Update": "abc" }, { kind: "none", lastUpdate: "abc" }],
    ["without", { "Gitlab-Ci-Builds-Polling": "yes" }, { kind: "none" }],
  ])("takes 204 %s X-GitLab-Last-Update for no job", async (_with, headers, expected) => {
    const { api } = await answering(204, undefined, headers);

    expect(await api.requestJob({ token, info })).toEqual(expected);
  });

  test.each([
    [403, true, "does not know the runner token"],
    [401, true, "does not know the runner token"],
    [422, true, "no owner project"],
    [413, true, "too large"],
    [409, false, "busy"],
    [429, false, "busy"],
    [500, false, "internal problem"],
    [502, false, "502"],
    [503, false, "maintenance"],
    [404, true, "not GitLab's API"],
    [200, true, "not GitLab's API"],
  ])("%i: wait, needs somebody to act: %s", async (status, fatal, words) => {
    const { api } = await answering(status, { message: "…" });

    const said = await api.requestJob({ token, info });

    expect(said).toMatchObject({
      kind: "wait",
      waitMs: 0,
      fatal,
      problem: expect.stringContaining(words),
    });
  });

  test("does not follow a redirect with the token, and says where it points", async () => {
    const { api, server } = await answering(302, "moved", {
      Location: "https://other.example.com/users/sign_in?secret=x",
    });

    const said = await api.requestJob({ token, info });

    expect(server.seen).toHaveLength(1);
    expect(said).toMatchObject({ kind: "wait", fatal: true });
    expect(JSON.stringify(said)).toContain("https://other.example.com/users/sign_in");
    expect(JSON.stringify(said)).not.toContain("secret=x");
  });

  test("honours the wait that GitLab asks for", async () => {
    const { api } = await answering(429, { message: "slow down" }, { "Retry-After": "7" });

    expect(await api.requestJob({ token, info })).toMatchObject({ kind: "wait", waitMs: 7_000 });
  });

  test("never sends more than GitLab takes", async () => {
    const { api, server } = await answering(204);

    const said = await api.requestJob({ token, info: { notes: "x".repeat(40_000) } });

    expect(said).toMatchObject({ kind: "wait", fatal: true });
    expect(server.seen).toHaveLength(0);
  });

  test("waits for a slow body: the job is ours already", async () => {
    const raw = JSON.stringify(aPayload({ id: 12 }));
    const { api } = await gitLab(async (_request, response) => {
      response.writeHead(201, { "content-type": "application/json" });
      for (let at = 0; at < raw.length; at += 500) {
        response.write(raw.slice(at, at + 500));
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      response.end();
    });

    expect(await api.requestJob({ token, info })).toMatchObject({ kind: "job", raw });
  });

  test("takes a connection cut before the answer for a failure that may pass", async () => {
    const { api } = await gitLab((_request, response) => response.destroy());

    const said = await api.requestJob({ token, info });

    expect(said).toMatchObject({ kind: "wait", fatal: false, problem: expect.stringContaining("cut") });
  });

  test("reads id and token of a job whose body is cut", async () => {
    const raw = JSON.stringify(aPayload({ id: 12, token: "glcbt-cut" }));
    const { api } = await gitLab((_request, response) => {
      response.writeHead(201, { "content-type": "application/json", "content-length": raw.length });
      response.write(raw.slice(0, 200), () => response.destroy());
    });

    const said = await api.requestJob({ token, info });

    expect(said).toMatchObject({ kind: "unusable", jobId: 12, problem: expect.stringContaining("cut") });
    expect(said.kind === "unusable" && said.jobToken?.reveal()).toBe("glcbt-cut");
  });

  test.each([
    ["", {}],
    ["<html>", {}],
    ['{"id":12', {}],
    ['{"id":12,"tok', { jobId: 12 }],
    ['{"id":12,"token":"glcbt-ha', { jobId: 12 }],
  ])("gives no more than it can be sure of from %j", async (text, expected) => {
    const { api } = await gitLab((_request, response) => response.writeHead(201).end(text));

    const { problem, ...said } = (await api.requestJob({ token, info })) as { problem: string };

    expect(said).toEqual({ kind: "unusable", ...expected });
    expect(problem).toBeTruthy();
  });

  test("keeps id and token of a job that is not as expected, and names the fields", async () => {
    const { api } = await answering(201, { id: 12, token: "glcbt-odd", job_info: { stage: "test" } });

    const said = await api.requestJob({ token, info });

    expect(said).toMatchObject({
      kind: "unusable",
      jobId: 12,
      problem: expect.stringContaining("job_info.name"),
    });
    expect(said.kind === "unusable" && said.jobToken?.reveal()).toBe("glcbt-odd");
    expect(JSON.stringify(said)).not.toContain("glcbt-odd");
  });
});

describe("updateJob", () => {
  const update = { jobId: 12, jobToken, state: "failed", failureReason: "runner_system_failure" } as const;

  test("sends token, state and reason", async () => {
    const { api, server } = await answering(200, undefined, { "Job-Status": "failed" });

    const status = await api.updateJob(update);

    expect(status).toEqual({ kind: "accepted", status: "failed" });
    expect(server.seen[0]).toMatchObject({ method: "PUT", path: "/api/v4/jobs/12" });
    expect(server.seen[0]?.json).toEqual({
      token: jobToken.reveal(),
      state: "failed",
      failure_reason: "runner_system_failure",
    });
  });

  test.each([
    [202, { "X-GitLab-Trace-Update-Interval": "4" }, { kind: "again", waitMs: 4_000 }],
    [202, {}, { kind: "again", waitMs: 1_000 }],
    [403, { "Job-Status": "canceled" }, { kind: "over", status: "canceled" }],
    [404, {}, { kind: "over", status: undefined }],
    [429, { "Retry-After": "60" }, { kind: "unavailable", waitMs: 60_000 }],
    [500, {}, { kind: "unavailable", waitMs: 0 }],
    [409, {}, { kind: "unavailable", waitMs: 0 }],
    [302, { Location: "/sign_in" }, { kind: "unavailable", waitMs: 0 }],
  ])("%i with %j", async (status, headers, expected) => {
    const { api } = await answering(status, {}, headers);

    expect(await api.updateJob(update)).toMatchObject(expected);
  });

  test("a cut connection is unavailable", async () => {
    const { api } = await gitLab((_request, response) => response.destroy());

    expect(await api.updateJob(update)).toMatchObject({ kind: "unavailable", waitMs: 0 });
  });
});

describe("appendTrace", () => {
  const patch = { jobId: 12, jobToken, startBytes: 10, bytes: Buffer.from("häll") };

  test("sends the bytes with an inclusive range", async () => {
    const { api, server } = await answering(202, undefined, {
      "Job-Status": "running",
      Range: "0-15",
      "X-GitLab-Trace-Update-Interval": "3",
    });

    const status = await api.appendTrace(patch);

    expect(status).toEqual({ kind: "accepted", sizeBytes: 15, status: "running", intervalMs: 3_000 });
    expect(server.seen[0]).toMatchObject({
      method: "PATCH",
      path: "/api/v4/jobs/12/trace",
      headers: {
        "content-type": "text/plain",
        "content-range": "10-14",
        "job-token": jobToken.reveal(),
        "content-length": "5",
      },
      body: "häll",
    });
  });

  test("sends only its own part of a larger buffer", async () => {
    const { api, server } = await answering(202, undefined, { Range: "0-12" });

    await api.appendTrace({ ...patch, bytes: Buffer.from("abcdef").subarray(2, 4) });

    expect(server.seen[0]).toMatchObject({ body: "cd", headers: { "content-range": "10-11" } });
  });

  test.each([
    [202, {}, { kind: "accepted", sizeBytes: 15, status: undefined, intervalMs: undefined }],
    [416, { Range: "0-8" }, { kind: "elsewhere", sizeBytes: 8 }],
    [416, {}, { kind: "unavailable" }],
    [403, { "Job-Status": "canceled" }, { kind: "over", status: "canceled" }],
    [404, {}, { kind: "over", status: undefined }],
    [429, { "Retry-After": "2" }, { kind: "unavailable", waitMs: 2_000 }],
    [502, {}, { kind: "unavailable", waitMs: 0 }],
  ])("%i with %j", async (status, headers, expected) => {
    const { api } = await answering(status, {}, headers);

    expect(await api.appendTrace(patch)).toMatchObject(expected);
  });
});
