import { expect, test } from "vitest";
import { aRest, aRestAnswering } from "../../test/builders/rest.ts";
import { answer } from "../../test/servers/http-server.ts";

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
