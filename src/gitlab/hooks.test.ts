import { expect, test } from "vitest";
import { aRestAnswering } from "../../test/builders/rest.ts";
import { Secret } from "../base/secret.ts";
import type { Scope } from "./rest-api.ts";

const group: Scope = { kind: "group", id: 5, path: "acme" };
const project: Scope = { kind: "project", id: 6, path: "acme/app" };
const signingToken = new Secret(`whsec_${Buffer.alloc(32, 7).toString("base64")}`);
const settings = { url: "https://firerunner.example.org/webhook", signingToken, token: new Secret("plain") };
const hook = {
  id: 3,
  url: settings.url,
  alert_status: "temporarily_disabled",
  disabled_until: "2026-05-01T10:00:00.000Z",
  job_events: true,
  pipeline_events: true,
  enable_ssl_verification: true,
  signing_token_present: true,
};
const known = {
  id: 3,
  url: settings.url,
  alertStatus: "temporarily_disabled",
  disabledUntil: Date.UTC(2026, 4, 1, 10),
  jobEvents: true,
  pipelineEvents: true,
  sslVerification: true,
  signingTokenPresent: true,
};

test.each([
  [group, "/api/v4/groups/5/hooks?per_page=100"],
  [project, "/api/v4/projects/6/hooks?per_page=100"],
])("lists the webhooks of %j with their health", async (scope, path) => {
  await using gitlab = await aRestAnswering(200, [hook]);

  expect(await gitlab.rest.hooksOf(scope)).toEqual([known]);
  expect(gitlab.server.seen[0]?.path).toBe(path);
});

test("reads a webhook of an older GitLab", async () => {
  const { alert_status, disabled_until, signing_token_present, ...old } = hook;
  await using gitlab = await aRestAnswering(200, [{ ...old, disabled_until: null }]);

  expect(await gitlab.rest.hooksOf(project)).toMatchObject([
    { alertStatus: undefined, disabledUntil: undefined, signingTokenPresent: undefined },
  ]);
});

test("creates a webhook for jobs and pipelines only", async () => {
  await using gitlab = await aRestAnswering(201, hook);

  expect(await gitlab.rest.createHook(project, settings)).toEqual(known);
  expect(gitlab.server.seen[0]).toMatchObject({ method: "POST", path: "/api/v4/projects/6/hooks" });
  expect(gitlab.server.seen[0]?.json).toEqual({
    url: settings.url,
    push_events: false,
    job_events: true,
    pipeline_events: true,
    enable_ssl_verification: true,
    signing_token: signingToken.reveal(),
    token: "plain",
  });
});

test("changes a webhook, and leaves secrets alone that are not given", async () => {
  await using gitlab = await aRestAnswering(200, hook);

  await gitlab.rest.updateHook(group, 3, { url: settings.url, signingToken: undefined, token: undefined });

  expect(gitlab.server.seen[0]).toMatchObject({ method: "PUT", path: "/api/v4/groups/5/hooks/3" });
  expect(Object.keys(gitlab.server.seen[0]?.json ?? {})).not.toContain("token");
  expect(Object.keys(gitlab.server.seen[0]?.json ?? {})).not.toContain("signing_token");
});

test("lets GitLab test a webhook", async () => {
  await using gitlab = await aRestAnswering(201, { message: "201 Created" });

  await gitlab.rest.testHook(project, 3, "job_events");

  expect(gitlab.server.seen).toMatchObject([
    { method: "POST", path: "/api/v4/projects/6/hooks/3/test/job_events" },
  ]);
});

test.each<[Scope, number, object, string, string]>([
  [project, 422, { message: "Requests to the local network are not allowed" }, "gitlab_refused", "Outbound"],
  [
    project,
    422,
    { message: { base: ["Maximum number of project hooks (100) exceeded"] } },
    "gitlab_refused",
    "100",
  ],
  [group, 404, { message: "404 Not Found" }, "gitlab_not_found", "Premium"],
  [group, 403, { message: "403 Forbidden" }, "gitlab_forbidden", "Owner in group acme"],
  [project, 403, { error: "insufficient_scope", scope: "api" }, "gitlab_forbidden", "the scope api"],
])("%j: %i %j is explained", async (scope, status, body, code, words) => {
  await using gitlab = await aRestAnswering(status, body);

  await expect(gitlab.rest.createHook(scope, settings)).rejects.toMatchObject({
    code,
    hint: expect.stringContaining(words),
  });
});

test("a token that may only read can look after webhooks", async () => {
  await using gitlab = await aRestAnswering(403, { error: "insufficient_scope", scope: "api read_api" });

  await expect(gitlab.rest.hooksOf(project)).rejects.toMatchObject({
    message: expect.stringContaining("lacks the scope read_api"),
  });
});

test("GitLab's word on a test that failed is shown", async () => {
  await using gitlab = await aRestAnswering(422, { message: "Connection refused" });

  await expect(gitlab.rest.testHook(project, 3, "job_events")).rejects.toMatchObject({
    code: "gitlab_refused",
    message: expect.stringContaining("Connection refused"),
  });
});

test("an instance has no webhooks with job events", async () => {
  await using gitlab = await aRestAnswering(200, []);

  await expect(gitlab.rest.hooksOf({ kind: "instance" })).rejects.toMatchObject({ code: "gitlab_refused" });
  expect(gitlab.server.seen).toHaveLength(0);
});
