import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Project } from "./model.ts";
import { createStandInGitLab, type StandInGitLab } from "./stand-in.ts";
import { createRunnerDouble, type RunnerDouble, shellFeatures, traceSummary } from "./test-clients.ts";

let gitlab: StandInGitLab;
let client: RunnerDouble;
let project: Project;
let token: string;

beforeEach(async () => {
  gitlab = createStandInGitLab({ behaviour: { longPollMs: 10_000 } });
  await gitlab.listen();
  client = createRunnerDouble(gitlab.url);
  project = await gitlab.projects.add();
  token = gitlab.runners.add({ tags: ["vm"] }).token;
});

afterEach(async () => {
  await client.close();
  await gitlab.close();
});

function rules(): string[] {
  return gitlab.violations.map((violation) => violation.rule);
}

async function claimed(definition = {}) {
  const job = await gitlab.addJob(project, { tags: ["vm"], ...definition });
  const claim = await client.claim(token);
  return { job, ...claim };
}

describe("verify", () => {
  test("answers the runner's id for a good token and 403 for a wrong one", async () => {
    const good = await client.verify(token);
    const bad = await client.verify("glrt-nobody");

    expect([good.status, good.json()]).toEqual([200, { id: 1, token, token_expires_at: null }]);
    expect(bad.status).toBe(403);
    expect(rules()).toEqual(["wrong-token"]);
  });
});

describe("a job request", () => {
  test("without last_update answers at once and names the newest value", async () => {
    const answer = await client.requestJob(token);

    expect(answer.status).toBe(204);
    expect(answer.headers["x-gitlab-last-update"]).toMatch(/^[0-9a-f]{32}$/);
    expect(answer.headers["gitlab-ci-builds-polling"]).toBeUndefined();
  });

  test("with the newest last_update is held until a job comes, then answers 204 without a value", async () => {
    const lastUpdate = String((await client.requestJob(token)).headers["x-gitlab-last-update"]);
    const held = client.requestJob(token, { lastUpdate });
    await vi.waitFor(() => expect(gitlab.runners.heldRequests()).toBe(1));
    await gitlab.addJob(project, { tags: ["vm"] });
    const answer = await held;
    const next = await client.requestJob(token, { lastUpdate });

    expect([answer.status, answer.headers["gitlab-ci-builds-polling"]]).toEqual([204, "yes"]);
    expect(answer.headers["x-gitlab-last-update"]).toBeUndefined();
    expect(next.status).toBe(201);
    expect(next.headers["x-gitlab-last-update"]).toBeUndefined();
  });

  test("is held no longer than the limit, and not for a job of other tags", async () => {
    gitlab.behaviour.longPollMs = 80;
    const lastUpdate = String((await client.requestJob(token)).headers["x-gitlab-last-update"]);
    const job = await gitlab.addJob(project, { tags: ["vm", "arm"] });
    const answer = await client.requestJob(token, { lastUpdate });

    expect([answer.status, answer.headers["gitlab-ci-builds-polling"], job.status]).toEqual([
      204,
      "yes",
      "pending",
    ]);
  });

  test("with long polling off answers the newest value at once with the same value", async () => {
    gitlab.behaviour.longPollMs = 0;
    const lastUpdate = String((await client.requestJob(token)).headers["x-gitlab-last-update"]);
    const answer = await client.requestJob(token, { lastUpdate });

    expect(answer.headers["x-gitlab-last-update"]).toBe(lastUpdate);
  });

  test("gives each job once, oldest first, to a runner whose tags cover the job's", async () => {
    const first = await gitlab.addJob(project, { tags: ["vm"] });
    const second = await gitlab.addJob(project, { tags: ["vm"] });
    const untagged = await gitlab.addJob(project);
    const answers = [await client.claim(token), await client.claim(token), await client.requestJob(token)];

    expect(answers.slice(0, 2)).toMatchObject([{ id: first.id }, { id: second.id }]);
    expect(answers[2]).toMatchObject({ status: 204 });
    expect([first.status, untagged.status]).toEqual(["running", "pending"]);
  });

  test("of a paused runner gets nothing", async () => {
    const runner = gitlab.runners.add({ tags: ["vm"], paused: true });
    await gitlab.addJob(project, { tags: ["vm"] });

    expect((await client.requestJob(runner.token)).status).toBe(204);
  });

  test("with a wrong token, a big body or no info is refused or remembered", async () => {
    const wrong = await client.requestJob("glrt-nobody");
    const big = await client.call("POST", "/api/v4/jobs/request", {
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token, padding: "x".repeat(33 * 1024) }),
    });
    const bare = await client.call("POST", "/api/v4/jobs/request", {
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token }),
    });

    expect([wrong.status, big.status, bare.status]).toEqual([403, 413, 204]);
    expect(rules()).toEqual(["wrong-token", "bad-request", "no-runner-info"]);
  });

  test("past the limit of the minute is answered 429 with Retry-After", async () => {
    gitlab.behaviour.limits = { ...gitlab.behaviour.limits, jobRequestsPerRunner: 1 };
    await client.requestJob(token);
    const answer = await client.requestJob(token);

    expect([answer.status, answer.headers["retry-after"]]).toEqual([429, "60"]);
  });

  test("fails a job that the runner says it cannot do", async () => {
    const job = await gitlab.addJob(project, { tags: ["vm"], allowFailure: { exitCodes: [3] } });
    const features = { ...shellFeatures, return_exit_code: false };
    const answer = await client.requestJob(token, { features });

    expect([answer.status, job.status, job.failureReason]).toEqual([204, "failed", "runner_unsupported"]);
  });
});

describe("an update", () => {
  test("running is a heartbeat; the end answers with the status after it", async () => {
    const { job, id, token: jobToken } = await claimed();
    const heartbeat = await client.update(id, jobToken, "running");
    await client.appendTrace(id, jobToken, 0, "hello\n");
    const end = await client.update(id, jobToken, "failed", {
      failure_reason: "script_failure",
      exit_code: 3,
      ...traceSummary("hello\n"),
    });

    expect([heartbeat.status, heartbeat.headers["job-status"]]).toEqual([200, "running"]);
    expect(heartbeat.headers["x-gitlab-trace-update-interval"]).toBe("60");
    expect([end.status, end.headers["job-status"]]).toEqual([200, "failed"]);
    expect(job).toMatchObject({ status: "failed", failureReason: "script_failure", exitCode: 3 });
    expect(job.traceCheck?.matches).toBe(true);
    expect(gitlab.violations).toEqual([]);
  });

  test("without a token, of an unknown state or with another job's token is refused", async () => {
    const { id, token: jobToken } = await claimed();
    const answers = [
      await client.call("PUT", `/api/v4/jobs/${id}`, { headers: { "JOB-TOKEN": jobToken }, body: "{}" }),
      await client.update(id, jobToken, "pending"),
      await client.update(id, "glcbt-other", "running"),
      await client.update(999, jobToken, "running"),
    ];

    expect(answers.map((answer) => answer.status)).toEqual([400, 400, 403, 403]);
    expect(answers[2]?.headers["job-status"]).toBeUndefined();
  });

  test("with another checksum than the stored log's is accepted and remembered", async () => {
    const { job, id, token: jobToken } = await claimed();
    await client.appendTrace(id, jobToken, 0, "hello\n");
    const end = await client.update(id, jobToken, "success", traceSummary("other\n"));

    expect([end.status, job.traceCheck?.matches]).toEqual([200, false]);
    expect(rules()).toEqual(["trace-checksum"]);
  });

  test("is held with 202 as often as told, and must not change in between", async () => {
    gitlab.behaviour.heldFinalUpdates = 2;
    const { job, id, token: jobToken } = await claimed();
    const answers = [
      await client.update(id, jobToken, "success"),
      await client.update(id, jobToken, "success"),
      await client.update(id, jobToken, "failed"),
    ];

    expect(answers.map((answer) => answer.status)).toEqual([202, 202, 200]);
    expect(answers[0]?.headers["x-gitlab-trace-update-interval"]).toBe("1");
    expect([job.status, rules()]).toEqual(["failed", ["update-changed"]]);
  });

  test("after the end is 403 with the status, and a violation unless the job was canceled", async () => {
    const ended = await claimed();
    await client.update(ended.id, ended.token, "success");
    // Until the whole answer is out, the end may not have been heard, and a repeat is no violation.
    await expect.poll(() => ended.job.endAnswered).toBe(true);
    const again = await client.update(ended.id, ended.token, "success");
    const canceled = await claimed();
    gitlab.jobs.cancel(canceled.job);
    const late = await client.update(canceled.id, canceled.token, "failed");

    expect([again.status, again.headers["job-status"]]).toEqual([403, "success"]);
    expect([late.status, late.headers["job-status"]]).toEqual([403, "canceled"]);
    expect(late.text).toContain("Job is not processing on runner");
    expect(rules()).toEqual(["update-after-end"]);
  });

  test("again after its answer was lost is 403 and no violation", async () => {
    const { id, job, token: jobToken } = await claimed();
    gitlab.faults.add("update-job", { kind: "lose-answer" });
    await expect(client.update(id, jobToken, "success")).rejects.toThrow();
    const again = await client.update(id, jobToken, "success");

    expect([again.status, again.headers["job-status"], job.status]).toEqual([403, "success", "success"]);
    expect(gitlab.violations).toEqual([]);
  });

  test("unknown failure reasons become unknown_failure", async () => {
    const { id, job, token: jobToken } = await claimed();
    await client.update(id, jobToken, "failed", { failure_reason: "runner_interrupted" });

    expect(job.failureReason).toBe("unknown_failure");
  });
});

describe("the trace", () => {
  test("grows only at its end; a lost answer's repeat passes; all else is 416 with the size", async () => {
    const { job, id, token: jobToken } = await claimed();
    job.watched = true;
    const first = await client.appendTrace(id, jobToken, 0, "one\n");
    const second = await client.appendTrace(id, jobToken, 4, "two\n");
    const repeat = await client.appendTrace(id, jobToken, 4, "two\n");
    const gap = await client.appendTrace(id, jobToken, 20, "x");
    const overlap = await client.appendTrace(id, jobToken, 0, "one\n");

    expect([first.status, first.headers["range"]]).toEqual([202, "0-4"]);
    expect(first.headers["x-gitlab-trace-update-interval"]).toBe("3");
    expect([second.status, repeat.status, repeat.headers["range"]]).toEqual([202, 202, "0-8"]);
    expect([gap.status, gap.headers["range"], overlap.status]).toEqual([416, "0-8", 416]);
    expect(job.trace.text()).toBe("one\ntwo\n");
    expect(rules()).toEqual(["trace-range", "trace-range"]);
  });

  test("a repeat with other bytes is remembered", async () => {
    const { job, id, token: jobToken } = await claimed();
    await client.appendTrace(id, jobToken, 0, "one\n");
    const changed = await client.appendTrace(id, jobToken, 0, "two\n");

    expect([changed.status, job.trace.text(), rules()]).toEqual([202, "one\n", ["trace-changed"]]);
  });

  test("without Content-Range is 400, after the end 403, above the limit the job's end", async () => {
    const { job, id, token: jobToken } = await claimed();
    gitlab.behaviour.maxTraceBytes = 10;
    const bare = await client.call("PATCH", `/api/v4/jobs/${id}/trace`, {
      headers: { "JOB-TOKEN": jobToken },
      body: "x",
    });
    const large = await client.appendTrace(id, jobToken, 0, "x".repeat(11));

    expect([bare.status, large.status, large.headers["job-status"]]).toEqual([400, 403, "failed"]);
    expect(job.failureReason).toBe("trace_size_exceeded");
  });

  test("faster than the limit is 429", async () => {
    gitlab.behaviour.limits = { ...gitlab.behaviour.limits, tracesPerJob: 1 };
    const { id, token: jobToken } = await claimed();
    const answers = [
      await client.appendTrace(id, jobToken, 0, "a"),
      await client.appendTrace(id, jobToken, 1, "b"),
    ];

    expect(answers.map((answer) => answer.status)).toEqual([202, 429]);
  });
});

describe("a cancel", () => {
  test("ends the job at once when its runner did not say cancel_gracefully", async () => {
    const { job } = await claimed();
    gitlab.jobs.cancel(job);

    expect(job.status).toBe("canceled");
  });

  test("is canceling until the runner is done when it did", async () => {
    const job = await gitlab.addJob(project, { tags: ["vm"] });
    const features = { ...shellFeatures, cancel_gracefully: true };
    const payload = (await client.requestJob(token, { features })).json();
    const jobToken = String(payload["token"]);
    gitlab.jobs.cancel(job);
    const patch = await client.appendTrace(job.id, jobToken, 0, "after_script\n");
    const end = await client.update(job.id, jobToken, "success");

    expect([patch.status, patch.headers["job-status"]]).toEqual([202, "canceling"]);
    expect([end.status, end.headers["job-status"], job.status]).toEqual([200, "canceled", "canceled"]);
  });

  test("of a job that waits ends it, and nobody gets it", async () => {
    const job = await gitlab.addJob(project, { tags: ["vm"] });
    gitlab.jobs.cancel(job);

    expect([job.status, (await client.requestJob(token)).status]).toEqual(["canceled", 204]);
  });
});

test("the payload has every field of GitLab's, with the running job's token throughout", async () => {
  const secrets = await gitlab.projects.add({
    path: "deep/group/app",
    variables: [{ key: "PASSWORD", value: "hunter2", masked: true }],
  });
  await gitlab.addJob(secrets, { tags: ["vm"], afterScript: ["bye"], timeoutSeconds: 90 });
  const { payload, token: jobToken } = await client.claim(token);

  expect(Object.keys(payload)).toEqual(
    expect.arrayContaining(
      "id token allow_git_fetch job_info git_info runner_info inputs variables steps hooks image services artifacts cache credentials dependencies features".split(
        " ",
      ),
    ),
  );
  expect(payload["runner_info"]).toMatchObject({ timeout: 90 });
  expect(payload["steps"]).toMatchObject([{ name: "script" }, { name: "after_script", when: "always" }]);
  expect(payload["features"]).toMatchObject({ trace_sections: true });
  expect(payload["git_info"]).toMatchObject({
    repo_url: `${gitlab.url.replace("//", `//gitlab-ci-token:${jobToken}@`)}/deep/group/app.git`,
    depth: 20,
  });
  const variables = payload["variables"] as { key: string; value: string; masked: boolean }[];
  expect(variables.find(({ key }) => key === "PASSWORD")).toMatchObject({ value: "hunter2", masked: true });
  expect(variables.find(({ key }) => key === "CI_JOB_TOKEN")).toMatchObject({
    value: jobToken,
    masked: true,
  });
  expect(variables.find(({ key }) => key === "CI_PROJECT_NAMESPACE")?.value).toBe("deep/group");
});

test("a job token is refused when it has run out, and the job fails for that", async () => {
  const { createManualClock } = await import("../../../src/base/manual-clock.ts");
  const clock = createManualClock();
  const other = createStandInGitLab({ clock });
  await other.listen();
  const double = createRunnerDouble(other.url);
  const runner = other.runners.add({});
  const job = await other.addJob(await other.projects.add(), { timeoutSeconds: 60 });
  const claim = await double.claim(runner.token);
  await clock.advance(7 * 60_000);
  const answer = await double.update(claim.id, claim.token, "running");
  await double.close();
  await other.close();

  expect([answer.status, job.failureReason]).toEqual([403, "job_token_expired"]);
});

test("an unknown address is 404 and a violation", async () => {
  const answer = await client.call("GET", "/api/v4/nothing");

  expect([answer.status, rules()]).toEqual([404, ["unknown-route"]]);
});
