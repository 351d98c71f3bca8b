import { describe, expect, test } from "vitest";
import { aRest, aRestAnswering } from "../../test/builders/rest.ts";
import { answer } from "../../test/servers/http-server.ts";
import type { NewApiRunner, Scope } from "./rest-api.ts";

const group: Scope = { kind: "group", id: 5, path: "acme" };
const project: Scope = { kind: "project", id: 6, path: "acme/app" };
const instance: Scope = { kind: "instance" };

function aNewRunner(given: Partial<NewApiRunner> = {}): NewApiRunner {
  return { scope: group, description: "ours", tags: ["a", "b, c"], protected: false, ...given };
}

describe("createRunner", () => {
  test.each<[Partial<NewApiRunner>, object]>([
    [{ scope: group }, { runner_type: "group_type", group_id: 5, access_level: "not_protected" }],
    [{ scope: project }, { runner_type: "project_type", project_id: 6, locked: true }],
    [
      { scope: instance, protected: true },
      { runner_type: "instance_type", access_level: "ref_protected" },
    ],
  ])("asks for exactly the runner that is wanted: %j", async (given, expected) => {
    await using gitlab = await aRestAnswering(201, { id: 9, token: "glrt-new", token_expires_at: null });

    const made = await gitlab.rest.createRunner(aNewRunner(given));

    expect(made).toMatchObject({ id: 9, tokenExpiresAt: null });
    expect(made.token.reveal()).toBe("glrt-new");
    expect(gitlab.server.seen).toHaveLength(1);
    expect(gitlab.server.seen[0]).toMatchObject({
      method: "POST",
      path: "/api/v4/user/runners",
      headers: { "content-type": "application/json" },
      json: { description: "ours", tag_list: ["a", "b, c"], run_untagged: false, ...expected },
    });
  });

  test("gives the end of a token that has one", async () => {
    const body = { id: 9, token: "glrt-new", token_expires_at: "2026-05-01T10:00:00.000Z" };
    await using gitlab = await aRestAnswering(201, body);

    const { tokenExpiresAt } = await gitlab.rest.createRunner(aNewRunner());

    expect(tokenExpiresAt).toBe(Date.UTC(2026, 4, 1, 10));
  });

  test.each<[Scope, number, unknown, string, string]>([
    [
      group,
      400,
      { message: "400 Bad request - Maximum number of ci registered group runners (50) exceeded" },
      "gitlab_refused",
      "“firerunner runner prune”",
    ],
    [
      project,
      400,
      { message: { base: ["Maximum number of ci registered project runners (1000) exceeded"] } },
      "gitlab_refused",
      "“firerunner runner prune”",
    ],
    [group, 400, { message: { tag_list: ["Too many tags specified."] } }, "gitlab_refused", "1 to 50 tags"],
    [
      group,
      403,
      { error: "insufficient_scope", error_description: "No.", scope: "api create_runner" },
      "gitlab_forbidden",
      "the scope create_runner",
    ],
    [
      group,
      403,
      { message: "403 Forbidden - Insufficient permissions" },
      "gitlab_forbidden",
      "role Owner in group acme",
    ],
    [project, 403, { message: "403 Forbidden" }, "gitlab_forbidden", "role Maintainer in project acme/app"],
    [instance, 403, { message: "403 Forbidden" }, "gitlab_forbidden", "administrator"],
  ])("%j: %i says what to change (%j)", async (scope, status, body, code, words) => {
    await using gitlab = await aRestAnswering(status, body);

    await expect(gitlab.rest.createRunner(aNewRunner({ scope }))).rejects.toMatchObject({
      code,
      retryable: false,
      hint: expect.stringContaining(words),
    });
    expect(gitlab.server.seen).toHaveLength(1);
  });

  test("does not ask for more tags than a runner may have", async () => {
    await using gitlab = await aRestAnswering(500);
    const tags = Array.from({ length: 51 }, (_, number) => `tag-${number}`);

    await expect(gitlab.rest.createRunner(aNewRunner({ tags }))).rejects.toMatchObject({
      code: "gitlab_refused",
      message: expect.stringContaining("50 tags, not 51"),
    });
    expect(gitlab.server.seen).toHaveLength(0);
  });

  test("is never asked twice: an answer lost may be a runner made", async () => {
    await using gitlab = await aRest((_request, response) => response.destroy());

    await expect(gitlab.rest.createRunner(aNewRunner())).rejects.toMatchObject({
      code: "gitlab_unreachable",
    });
    expect(gitlab.server.seen).toHaveLength(1);
  });
});

describe("runnersOf", () => {
  test.each([
    [group, "/api/v4/groups/5/runners?type=group_type&per_page=100"],
    [project, "/api/v4/projects/6/runners?type=project_type&per_page=100"],
    [instance, "/api/v4/runners/all?type=instance_type&per_page=100"],
  ])("lists runners of the kind of %j", async (scope, path) => {
    await using gitlab = await aRestAnswering(200, [
      { id: 1, description: "one", paused: true, online: false },
      { id: 2, description: null, online: null },
    ]);

    expect(await gitlab.rest.runnersOf(scope)).toEqual([
      { id: 1, description: "one", paused: true, online: false },
      { id: 2, description: "", paused: false, online: undefined },
    ]);
    expect(gitlab.server.seen[0]?.path).toBe(path);
  });

  test("needs a scope that manage_runner does not include", async () => {
    await using gitlab = await aRestAnswering(403, { error: "insufficient_scope", scope: "api read_api" });

    await expect(gitlab.rest.runnersOf(group)).rejects.toMatchObject({
      message: expect.stringContaining("lacks the scope read_api"),
    });
  });
});

describe("restoreRunner", () => {
  test.each([
    ["one that is there", 200, { id: 9 }],
    ["one that is gone", 404, { message: "404 Runner Not Found" }],
  ])("sets what %s is to take", async (_what, status, body) => {
    await using gitlab = await aRestAnswering(status, body);

    await gitlab.rest.restoreRunner(9, { tags: ["a", "b"], protected: true });

    const settings = { tag_list: ["a", "b"], run_untagged: false, access_level: "ref_protected" };
    expect(gitlab.server.seen).toMatchObject([{ method: "PUT", path: "/api/v4/runners/9", json: settings }]);
  });
});

describe("deleteRunner", () => {
  test.each([
    ["one that was there", 204, undefined],
    ["one that is gone", 404, { message: "404 Runner Not Found" }],
  ])("is done with %s", async (_what, status, body) => {
    await using gitlab = await aRestAnswering(status, body);

    await gitlab.rest.deleteRunner(9);

    expect(gitlab.server.seen).toMatchObject([{ method: "DELETE", path: "/api/v4/runners/9" }]);
  });

  test("fails where GitLab forbids it", async () => {
    await using gitlab = await aRestAnswering(403, {
      error: "insufficient_scope",
      scope: "api manage_runner",
    });

    await expect(gitlab.rest.deleteRunner(9)).rejects.toMatchObject({
      code: "gitlab_forbidden",
      hint: expect.stringContaining("manage_runner"),
    });
  });

  test("is not believed by a web page that says 404", async () => {
    await using gitlab = await aRestAnswering(404, "<html>Not found</html>");

    await expect(gitlab.rest.deleteRunner(9)).rejects.toMatchObject({ code: "gitlab_wrong_url" });
  });
});

describe("hasRunningJobs", () => {
  test.each([
    ["running", [{ id: 1 }], [], true, 1],
    ["being canceled", [], [{ id: 1 }], true, 2],
    ["none", [], [], false, 2],
  ])("looks for jobs that are %s", async (_what, running, canceling, expected, requests) => {
    await using gitlab = await aRest((request, response) =>
      answer(response, 200, request.path.includes("status=running") ? running : canceling),
    );

    expect(await gitlab.rest.hasRunningJobs(9)).toBe(expected);
    expect(gitlab.server.seen).toHaveLength(requests);
    expect(gitlab.server.seen[0]?.path).toBe("/api/v4/runners/9/jobs?status=running&per_page=1");
  });

  test("is false for a runner that is gone", async () => {
    await using gitlab = await aRestAnswering(404, { message: "404 Not found" });

    expect(await gitlab.rest.hasRunningJobs(9)).toBe(false);
  });

  test("a GitLab that does not know the state canceling has no such jobs", async () => {
    await using gitlab = await aRest((request, response) =>
      request.path.includes("canceling")
        ? answer(response, 400, { error: "status does not have a valid value" })
        : answer(response, 200, []),
    );

    expect(await gitlab.rest.hasRunningJobs(9)).toBe(false);
  });

  test("does not guess when GitLab cannot say", async () => {
    await using gitlab = await aRestAnswering(500, {});

    await expect(gitlab.rest.hasRunningJobs(9)).rejects.toMatchObject({ code: "gitlab_unavailable" });
  });
});
