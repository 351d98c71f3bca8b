import { createHmac, randomBytes } from "node:crypto";
import { createServer, type IncomingHttpHeaders, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { Webhook } from "standardwebhooks";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { createManualClock, type ManualClock } from "../../../../src/base/manual-clock.ts";
import { parsePipeline } from "../../../../src/ci/parse.ts";
import { makeCertificateAuthority } from "../../../../test/servers/certificates.ts";
import type { Project } from "../model.ts";
import { createStandInGitLab, type StandInGitLab } from "../stand-in.ts";
import { createRestDouble, createRunnerDouble, type RestDouble } from "../test-clients.ts";

interface Received {
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  readonly body: Record<string, unknown>;
}

const key = randomBytes(32);
const signingToken = `whsec_${key.toString("base64")}`;

let clock: ManualClock;
let gitlab: StandInGitLab;
let project: Project;
let api: RestDouble;
let receiver: Server;
let url: string;
let received: Received[];
/** Answers of the receiver in turn; 200 when none is left, and none at all for 0. */
let statuses: number[];

beforeEach(async () => {
  received = [];
  statuses = [];
  clock = createManualClock(Date.now());
  gitlab = createStandInGitLab({ clock, behaviour: { longPollMs: 0 } });
  await gitlab.listen();
  project = await gitlab.projects.add({ path: "top/sub/app" });
  api = createRestDouble(gitlab.url, gitlab.tokens.add({ scopes: ["api"] }).token);
  receiver = createServer(receive);
  url = `http://127.0.0.1:${await portOf(receiver)}/webhook`;
});

afterEach(async () => {
  await api.close();
  await gitlab.close();
  receiver.closeAllConnections();
  await new Promise((resolve) => receiver.close(resolve));
});

const receive: Parameters<typeof createServer>[1] = async (request, response) => {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const text = Buffer.concat(chunks).toString("utf8");
  received.push({ headers: request.headers, text, body: JSON.parse(text) });
  const status = statuses.shift() ?? 200;
  if (status !== 0) response.writeHead(status).end(`answer ${status}`);
};

async function portOf(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as AddressInfo).port;
}

async function install(more: object = {}, home = `/projects/${project.id}`): Promise<number> {
  const settings = { url, job_events: true, push_events: false, signing_token: signingToken, ...more };
  const answer = await api.post(`${home}/hooks`, settings);
  expect(answer.status).toBe(201);
  return answer.json()["id"] as number;
}

async function settled(): Promise<void> {
  await vi.waitFor(() => expect(gitlab.hooks.underWay()).toBe(0), { interval: 5 });
}

async function hookState(id: number): Promise<unknown> {
  return (await api.get(`/projects/${project.id}/hooks/${id}`)).json()["alert_status"];
}

const told = (name: string) => received.map(({ body }) => body[name]).sort();

test("a hook of a group hears of the groups below, from the Premium plan on", async () => {
  const outside = await gitlab.projects.add({ path: "other/app" });
  await install({}, "/groups/top");
  await gitlab.addJob(project);
  await gitlab.addJob(outside);
  await settled();
  gitlab.behaviour.hooks.groupHooks = false;

  expect(new Set(told("project_id"))).toEqual(new Set([project.id]));
  expect((await api.get("/groups/top/hooks")).status).toBe(404);
});

describe("job hooks", () => {
  test("tell of created, pending, running and the end, and of nothing else", async () => {
    await install();
    const pipeline = await gitlab.pipelines.create(
      project,
      parsePipeline("a: { script: x }\nb: { script: x, stage: deploy }\nc: { script: x, when: manual }"),
    );
    const { token } = gitlab.runners.add({});
    const client = createRunnerDouble(gitlab.url);
    const claim = await client.claim(token);
    await client.update(claim.id, claim.token, "failed", { failure_reason: "script_failure" });
    await client.close();
    await settled();
    const names = received.map(({ body }) => `${body["build_name"]} ${body["build_status"]}`).sort();

    expect(gitlab.pipelines.jobs(pipeline).map((job) => job.status)).toEqual(["failed", "skipped", "manual"]);
    expect(names).toEqual(["a created", "a failed", "a pending", "a running", "b created", "c created"]);
  });

  test("carry a whole payload: the runner once there is one, never the job's tags", async () => {
    await install();
    const runner = gitlab.runners.add({ tags: ["vm", "on-the-runner"] });
    const job = await gitlab.addJob(project, { tags: ["vm"] });
    const client = createRunnerDouble(gitlab.url);
    await client.claim(runner.token);
    await client.close();
    await settled();
    const by = (status: string) => received.find(({ body }) => body["build_status"] === status)!;

    expect(by("pending").text).not.toContain("vm");
    expect(by("running").body).toMatchObject({
      object_kind: "build",
      build_id: job.id,
      build_started_at: new Date(job.startedAt!).toISOString(),
      build_started_at_iso: new Date(job.startedAt!).toISOString(),
      build_failure_reason: "unknown_failure",
      pipeline_id: job.pipeline.id,
      project_id: project.id,
      project_name: "top / sub / app",
      runner: { id: runner.id, runner_type: "instance_type", is_shared: true, tags: ["vm", "on-the-runner"] },
      commit: { id: job.pipeline.id, status: "running" },
      project: { path_with_namespace: "top/sub/app" },
      user: { username: "demo" },
      environment: null,
    });
    expect(by("pending").body).toMatchObject({ runner: null, build_started_at: null });
  });

  test("are signed as Standard Webhooks and named by the same id in two headers", async () => {
    await install({ token: "hush" });
    await gitlab.addJob(project);
    await settled();
    const [first, second] = received;
    const verifier = new Webhook(signingToken);
    const headers = first!.headers as Record<string, string>;

    expect(() => verifier.verify(first!.text, headers)).not.toThrow();
    expect(() => verifier.verify(`${first!.text} `, headers)).toThrow();
    expect(headers).toMatchObject({
      "content-type": "application/json",
      "user-agent": "GitLab/19.2.0",
      "x-gitlab-event": "Job Hook",
      "x-gitlab-token": "hush",
      "x-gitlab-instance": gitlab.url,
      "webhook-timestamp": String(Math.floor(clock.now() / 1_000)),
      "idempotency-key": headers["webhook-id"],
    });
    expect(headers["webhook-signature"]).toBe(
      `v1,${createHmac("sha256", key)
        .update(`${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${first!.text}`)
        .digest("base64")}`,
    );
    expect(second!.headers["webhook-id"]).not.toBe(headers["webhook-id"]);
  });

  test("of a GitLab before 19.0 have no signature and dates as Ruby prints them", async () => {
    gitlab.behaviour.hooks.version = "18.9.0";
    const id = await install({ token: "hush" });
    const shown = (await api.get(`/projects/${project.id}/hooks/${id}`)).json();
    await gitlab.addJob(project);
    await settled();
    const { headers, body } = received[0]!;

    expect(shown).not.toHaveProperty("signing_token_present");
    expect(Object.keys(headers).filter((name) => name.startsWith("webhook-"))).toEqual([]);
    expect(headers["idempotency-key"]).toMatch(/^[0-9a-f-]{36}$/);
    expect(body["build_created_at"]).toMatch(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$/);
    expect(body).not.toHaveProperty("build_created_at_iso");
  });
});

test("pipeline hooks tell of each change of a pipeline's status, with all its jobs", async () => {
  await install({ job_events: false, pipeline_events: true });
  const { token } = gitlab.runners.add({ tags: ["vm"] });
  await gitlab.pipelines.create(
    project,
    parsePipeline("a: { script: x, tags: [vm], stage: build }\nb: { script: x, tags: [vm], stage: test }"),
  );
  const client = createRunnerDouble(gitlab.url);
  for (let at = 0; at < 2; at++) {
    const claim = await client.claim(token);
    await client.update(claim.id, claim.token, "success");
  }
  await client.close();
  await settled();
  const attributes = received.map(({ body }) => body["object_attributes"] as Record<string, unknown>);

  expect(attributes.map(({ status }) => status).sort()).toEqual(["pending", "running", "success"]);
  expect(received[0]!.headers["x-gitlab-event"]).toBe("Pipeline Hook");
  expect(received[0]!.body).toMatchObject({
    object_kind: "pipeline",
    builds: [
      { name: "a", runner: null },
      { name: "b", status: "created" },
    ],
    project: { id: project.id },
    merge_request: null,
  });
});

describe("a receiver that fails", () => {
  async function fail(times: number): Promise<void> {
    for (let at = 0; at < times; at++) {
      statuses = [500];
      gitlab.hooks.notify({ event: "Job Hook", project, jobId: 1, status: "pending", payload: {} });
      await settled();
    }
  }

  test("is asked again with the next event, not at once", async () => {
    await install();
    await fail(1);

    expect(received).toHaveLength(1);
    expect(gitlab.hooks.deliveries).toMatchObject([{ outcome: "answered", statusCode: 500, isTest: false }]);
  });

  test("is switched off by its fourth failure for a minute, then for twice as long", async () => {
    const id = await install();
    await fail(3);
    const before = await hookState(id);
    await fail(1);
    const seen = [before, await hookState(id)];
    await fail(1);
    await clock.advance(60_001);
    seen.push(await hookState(id));
    await fail(1);
    await clock.advance(60_001);
    seen.push(await hookState(id));
    const off = (await api.get(`/projects/${project.id}/hooks/${id}`)).json()["disabled_until"];

    expect(seen).toEqual(["executable", "temporarily_disabled", "executable", "temporarily_disabled"]);
    expect(Date.parse(String(off)) - clock.now()).toBeGreaterThan(59_000 - 1);
    expect(received).toHaveLength(5);
    expect(gitlab.hooks.deliveries.map(({ outcome }) => outcome)).toEqual([
      ...Array(4).fill("answered"),
      "disabled",
      "answered",
    ]);
  });

  test("is switched off for good by its fortieth failure, until a test succeeds", async () => {
    const id = await install();
    const test = () => api.post(`/projects/${project.id}/hooks/${id}/test/push_events`);
    for (let at = 0; at < 40; at++) {
      await fail(1);
      await clock.advance(24 * 3_600_000 + 1);
    }
    const seen = [await hookState(id)];
    statuses = [503];
    const refused = await test();
    seen.push(await hookState(id));
    const accepted = await test();
    seen.push(await hookState(id));

    expect(seen).toEqual(["disabled", "disabled", "executable"]);
    expect([refused.status, refused.json()["message"], accepted.status]).toEqual([422, "answer 503", 201]);
  });

  test("starts from the beginning after a success, and redirects are one", async () => {
    const id = await install();
    await fail(3);
    statuses = [302];
    gitlab.hooks.notify({ event: "Job Hook", project, jobId: 1, status: "pending", payload: {} });
    await settled();
    await fail(3);

    expect(await hookState(id)).toBe("executable");
  });

  test("is not switched off by a GitLab that was not told to", async () => {
    gitlab.behaviour.hooks.autoDisable = false;
    const id = await install();
    await fail(50);

    expect([await hookState(id), received.length]).toEqual(["executable", 50]);
  });

  test("by not answering, or not being there, counts too", async () => {
    gitlab.behaviour.hooks.timeoutMs = 50;
    await install();
    statuses = [0];
    gitlab.hooks.notify({ event: "Job Hook", project, jobId: 1, status: "pending", payload: {} });
    await settled();
    receiver.closeAllConnections();

    expect(gitlab.hooks.deliveries).toMatchObject([{ outcome: "failed", statusCode: undefined }]);
    expect(gitlab.hooks.all()[0]?.failures).toBe(1);
  });
});

describe("a test event", () => {
  test("is sent at once with the newest job, five times a minute", async () => {
    const id = await install();
    const path = `/projects/${project.id}/hooks/${id}/test`;
    const none = await api.post(`${path}/job_events`);
    const job = await gitlab.addJob(project);
    await settled();
    received = [];
    const answers = [none.status];
    for (let at = 0; at < 5; at++) answers.push((await api.post(`${path}/job_events`)).status);

    expect(none.json()["message"]).toBe("Ensure the project has CI jobs.");
    expect(answers).toEqual([422, 201, 201, 201, 201, 429]);
    expect(told("build_id")).toEqual(Array(4).fill(job.id));
    expect((await api.post(`${path}/moon_events`)).status).toBe(400);
  });

  test("of a group's hook tells of a project below", async () => {
    const id = await install({}, "/groups/top");
    await gitlab.addJob(project);
    await settled();
    const answer = await api.post(`/groups/top/hooks/${id}/test/pipeline_events`);

    expect([answer.status, received.at(-1)?.headers["x-gitlab-event"]]).toEqual([201, "Pipeline Hook"]);
  });

  test("says why when the receiver cannot be reached", async () => {
    const id = await install({ url: "http://127.0.0.1:1/webhook" });
    const answer = await api.post(`/projects/${project.id}/hooks/${id}/test/push_events`);

    expect([answer.status, answer.text]).toEqual([422, expect.stringContaining("ECONNREFUSED")]);
  });
});

describe("deliveries", () => {
  test("can be lost, doubled under one id, and late", async () => {
    await install();
    gitlab.hooks.tamper = ({ status }) =>
      status === "created" ? [] : status === "pending" ? [0, 0] : [3_600_000];
    const job = await gitlab.addJob(project);
    await settled();
    gitlab.jobs.cancel(job);
    await vi.waitFor(() => expect(clock.nextWake()).toBeDefined());
    const early = told("build_status");
    const ids = received.map(({ headers }) => headers["webhook-id"]);
    await clock.advance(3_600_000);
    await settled();

    expect(early).toEqual(["pending", "pending"]);
    expect(ids[0]).toBe(ids[1]);
    expect(told("build_status")).toEqual(["canceled", "pending", "pending"]);
    expect(gitlab.hooks.deliveries[0]).toMatchObject({
      outcome: "dropped",
      jobId: job.id,
      status: "created",
    });
  });

  test("beyond the plan's events a minute are dropped", async () => {
    gitlab.behaviour.limits = { ...gitlab.behaviour.limits, hookEventsPerGroup: 1 };
    await install();
    await gitlab.addJob(project);
    await settled();

    expect(gitlab.hooks.deliveries.map(({ outcome }) => outcome).sort()).toEqual(["answered", "limited"]);
  });

  test("go to receivers with certificates of an own authority, which is checked unless told otherwise", async () => {
    await using authority = await makeCertificateAuthority();
    const server = createTlsServer(await authority.issue("localhost"), receive);
    const secure = `https://localhost:${await portOf(server as unknown as Server)}/webhook`;
    const trusting = await install({ url: secure, enable_ssl_verification: false });
    const careful = await install({ url: secure });
    const test = async (id: number) =>
      (await api.post(`/projects/${project.id}/hooks/${id}/test/push_events`)).status;
    const before = [await test(trusting), await test(careful)];
    gitlab.behaviour.hooks.ca = authority.ca;
    const after = await test(careful);
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));

    expect([...before, after]).toEqual([201, 422, 201]);
  });
});
