import { expect, test } from "vitest";
import { aRest, aRestAnswering } from "../../test/builders/rest.ts";
import { answer } from "../../test/servers/http-server.ts";

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
