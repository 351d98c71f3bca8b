import { z } from "zod";
import { byPages } from "./pages.ts";
import type { ApiProject, NamedScope, Scope } from "./rest-api.ts";
import type { RestCall, RestClient } from "./rest-client.ts";

const Project = z
  .object({ id: z.number(), path_with_namespace: z.string() })
  .transform(({ id, path_with_namespace: path }): ApiProject => ({ id, path }));
const Group = z.object({ id: z.number(), full_path: z.string() });

/** Groups and projects, by path or id. */
export function createProjectCalls(client: RestClient) {
  async function findProject(name: string, signal?: AbortSignal): Promise<ApiProject> {
    return await client.read(lookUp("project", name, "", signal), Project);
  }

  return {
    findProject,

    async findScope(named: NamedScope, signal?: AbortSignal): Promise<Scope> {
      if (named.kind === "instance") return named;
      if (named.kind === "project") return { kind: "project", ...(await findProject(named.name, signal)) };
      // Without the parameter GitLab adds the group's projects, which may be thousands of lines.
      const call = lookUp("group", named.name, "?with_projects=false", signal);
      const { id, full_path: path } = await client.read(call, Group);
      return { kind: "group", id, path };
    },

    async projectsOf(scope: Scope, signal?: AbortSignal): Promise<ApiProject[]> {
      if (scope.kind === "project") return [{ id: scope.id, path: scope.path }];
      const call: RestCall = { method: "GET", scope: "read_api", signal, ...projectList(scope) };
      return await client.list(call, Project);
    },
  };
}

function lookUp(
  kind: "group" | "project",
  name: string,
  query: string,
  signal: AbortSignal | undefined,
): RestCall {
  const path = name.trim().replace(/^\/+|\/+$/g, "");
  return {
    method: "GET",
    path: `/${kind}s/${encodeURIComponent(path)}${query}`,
    doing: `looking for ${kind} ${path}`,
    scope: "read_api",
    missing: `there is no such ${kind}, or the API token cannot see it: check the path (as in its address in GitLab), and make the token's user a member`,
    signal,
  };
}

/** Shared projects are left out: a group's runners do not serve them. */
function projectList(scope: Exclude<Scope, { kind: "project" }>): Pick<RestCall, "path" | "doing"> {
  const common = "archived=false&simple=true&order_by=id&sort=asc";
  if (scope.kind === "group") {
    return {
      path: byPages(`/groups/${scope.id}/projects?include_subgroups=true&with_shared=false&${common}`),
      doing: `listing the projects of group ${scope.path}`,
    };
  }
  return {
    path: byPages(`/projects?membership=true&pagination=keyset&${common}`),
    doing: "listing the projects of the API token's user",
  };
}
