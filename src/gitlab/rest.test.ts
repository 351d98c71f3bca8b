import { expect, test } from "vitest";
import { aRest, aRestAnswering } from "../../test/builders/rest.ts";
import { answer } from "../../test/servers/http-server.ts";

const job = {
  id: 7,
  name: "build",
  status: "pending",
  stage: "test",
  created_at: "2026-05-01T10:00:00.000Z",
  web_url: "https://gitlab.example.org/acme/app/-/jobs/7",
  ref: "main",
  tag_list: ["docker", "Firecracker-2cpu-4gb"],
  runner: null,
};
const known = {
  id: 7,
  name: "build",
  status: "pending",
  tags: ["docker", "Firecracker-2cpu-4gb"],
  createdAt: Date.UTC(2026, 4, 1, 10),
  webUrl: "https://gitlab.example.org/acme/app/-/jobs/7",
  ref: "main",
};

test("lists pending jobs with their tags, by keyset", async () => {
  await using gitlab = await aRestAnswering(200, [job]);

  expect(await gitlab.rest.pendingJobs(3)).toEqual([known]);
  expect(gitlab.server.seen[0]?.path).toBe(
    "/api/v4/projects/3/jobs?scope[]=pending&pagination=keyset&order_by=id&sort=desc&per_page=100",
  );
});

test("reads one job, also one without what GitLab may leave out", async () => {
  await using gitlab = await aRestAnswering(200, { ...job, tag_list: undefined, web_url: null, ref: null });

  expect(await gitlab.rest.job(3, 7)).toEqual({ ...known, tags: [], webUrl: "", ref: "" });
  expect(gitlab.server.seen[0]?.path).toBe("/api/v4/projects/3/jobs/7");
});

test("has a job run anew, in whose project's path no piece is a way of its own", async () => {
  await using gitlab = await aRestAnswering(201, { ...job, id: 8 });

  expect(await gitlab.rest.retryJob("acme/sub/app", 7)).toMatchObject({ id: 8 });
  expect(gitlab.server.seen[0]).toMatchObject({
    method: "POST",
    path: "/api/v4/projects/acme%2Fsub%2Fapp/jobs/7/retry",
  });
});

const project = { id: 6, path_with_namespace: "acme/sub/app", name: "App" };

test.each([
  ["acme/sub/app", "/api/v4/projects/acme%2Fsub%2Fapp"],
  ["/acme/sub/app/", "/api/v4/projects/acme%2Fsub%2Fapp"],
  ["6", "/api/v4/projects/6"],
  ["../user?x=1#y", "/api/v4/projects/..%2Fuser%3Fx%3D1%23y"],
])("looks for project %s in one piece of the path", async (name, path) => {
  await using gitlab = await aRestAnswering(200, project);

  expect(await gitlab.rest.findProject(name)).toEqual({ id: 6, path: "acme/sub/app" });
  expect(gitlab.server.seen[0]?.path).toBe(path);
});

test("finds scopes by what the configuration names", async () => {
  await using gitlab = await aRest((request, response) =>
    answer(response, 200, request.path.includes("/groups/") ? { id: 5, full_path: "acme/sub" } : project),
  );

  expect(await gitlab.rest.findScope({ kind: "group", name: "acme/sub" })).toEqual({
    kind: "group",
    id: 5,
    path: "acme/sub",
  });
  expect(await gitlab.rest.findScope({ kind: "project", name: "6" })).toEqual({
    kind: "project",
    id: 6,
    path: "acme/sub/app",
  });
  expect(await gitlab.rest.findScope({ kind: "instance" })).toEqual({ kind: "instance" });
  expect(gitlab.server.seen.map(({ path }) => path)).toEqual([
    "/api/v4/groups/acme%2Fsub?with_projects=false",
    "/api/v4/projects/6",
  ]);
});

test("a group that is not there may be one that the token cannot see", async () => {
  await using gitlab = await aRestAnswering(404, { message: "404 Group Not Found" });

  await expect(gitlab.rest.findScope({ kind: "group", name: "acme" })).rejects.toMatchObject({
    code: "gitlab_not_found",
    message: "looking for group acme: GitLab does not find it (404); it says: 404 Group Not Found",
    hint: expect.stringContaining("no such group, or the API token cannot see it"),
  });
});

test.each([
  [
    { kind: "group", id: 5, path: "acme" } as const,
    "/api/v4/groups/5/projects?include_subgroups=true&with_shared=false&archived=false&simple=true&order_by=id&sort=asc&per_page=100",
  ],
  [
    { kind: "instance" } as const,
    "/api/v4/projects?membership=true&pagination=keyset&archived=false&simple=true&order_by=id&sort=asc&per_page=100",
  ],
])("lists the projects of a $kind", async (scope, path) => {
  await using gitlab = await aRestAnswering(200, [project]);

  expect(await gitlab.rest.projectsOf(scope)).toEqual([{ id: 6, path: "acme/sub/app" }]);
  expect(gitlab.server.seen[0]?.path).toBe(path);
});

test("a project is its own list", async () => {
  await using gitlab = await aRestAnswering(500);

  expect(await gitlab.rest.projectsOf({ kind: "project", id: 6, path: "acme/app" })).toEqual([
    { id: 6, path: "acme/app" },
  ]);
  expect(gitlab.server.seen).toHaveLength(0);
});

const self = {
  id: 4,
  name: "firerunner",
  scopes: ["read_api", "create_runner"],
  expires_at: "2026-12-31",
  active: true,
  revoked: false,
  user_id: 42,
};
const insufficientScope = { error: "insufficient_scope", error_description: "No.", scope: "api read_user" };

test("tells what the token is, with the moment at which GitLab ends it", async () => {
  await using gitlab = await aRest((request, response) => {
    const isSelf = request.path === "/api/v4/personal_access_tokens/self";
    answer(response, 200, isSelf ? self : { id: 42, username: "bot", is_admin: true });
  });

  expect(await gitlab.rest.tokenFacts()).toEqual({
    name: "firerunner",
    scopes: ["read_api", "create_runner"],
    // The token ends when its day begins.
    expiresAt: Date.UTC(2026, 11, 31),
    active: true,
    userId: 42,
    username: "bot",
    isAdmin: true,
  });
  expect(gitlab.server.seen.map(({ path }) => path)).toEqual([
    "/api/v4/personal_access_tokens/self",
    "/api/v4/user",
  ]);
});

test("a token that may not look at its user still says what it may do", async () => {
  await using gitlab = await aRest((request, response) =>
    request.path.endsWith("/self")
      ? answer(response, 200, { ...self, expires_at: null })
      : answer(response, 403, insufficientScope),
  );

  expect(await gitlab.rest.tokenFacts()).toMatchObject({
    scopes: ["read_api", "create_runner"],
    expiresAt: null,
    userId: 42,
    username: "user 42",
    isAdmin: false,
  });
});

test("a user without a word about administration is none", async () => {
  await using gitlab = await aRest((request, response) =>
    answer(response, 200, request.path.endsWith("/self") ? self : { id: 42, username: "bot" }),
  );

  expect((await gitlab.rest.tokenFacts()).isAdmin).toBe(false);
});

test("other trouble with the user is not hidden", async () => {
  await using gitlab = await aRest((request, response) =>
    request.path.endsWith("/self") ? answer(response, 200, self) : answer(response, 500, {}),
  );

  await expect(gitlab.rest.tokenFacts()).rejects.toMatchObject({ code: "gitlab_unavailable" });
});

test.each([
  [{ kind: "group", id: 5, path: "acme" } as const, "/api/v4/groups/5/members/all/42"],
  [{ kind: "project", id: 6, path: "acme/app" } as const, "/api/v4/projects/6/members/all/42"],
])("the access level counts inherited membership: $kind", async (scope, path) => {
  await using gitlab = await aRestAnswering(200, { id: 42, access_level: 50 });

  expect(await gitlab.rest.accessLevel(scope, 42)).toBe(50);
  expect(gitlab.server.seen[0]?.path).toBe(path);
});

test("who is no member has no access level, and nobody is a member of an instance", async () => {
  await using gitlab = await aRestAnswering(404, { message: "404 Not found" });

  expect(await gitlab.rest.accessLevel({ kind: "group", id: 5, path: "acme" }, 42)).toBeUndefined();
  expect(await gitlab.rest.accessLevel({ kind: "instance" }, 42)).toBeUndefined();
  expect(gitlab.server.seen).toHaveLength(1);
});
