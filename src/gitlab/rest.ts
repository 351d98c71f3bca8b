/**
 * GitLab's REST API with an access token: jobs, projects and groups, and the token itself here; runners in runners.ts, webhooks in
 * hooks.ts. What is sent and what a failure means are in rest-client.ts and answer.ts. Facts: docs/gitlab.md.
 */

import { z } from "zod";
import type { RestCall } from "./answer.ts";
import { GitLabError } from "./errors.ts";
import { createHookCalls } from "./hooks.ts";
import type { ApiJob, ApiProject, GitLabRest, NamedScope, Scope, TokenFacts } from "./rest-api.ts";
import { byPages, createRestClient, type RestClient, type RestOptions } from "./rest-client.ts";
import { createRunnerCalls } from "./runners.ts";

/** GitLab's REST API with an access token. Nothing is tried twice in here. */
export function createGitLabRest(options: RestOptions): GitLabRest {
  const client = createRestClient(options);
  return {
    get budget() {
      return client.budget();
    },
    ...createTokenCalls(client),
    ...createProjectCalls(client),
    ...createJobCalls(client),
    ...createRunnerCalls(client),
    ...createHookCalls(client),
  };
}

const Job = z
  .object({
    id: z.number(),
    name: z.string(),
    status: z.string(),
    tag_list: z.array(z.string()).nullish(),
    created_at: z.string(),
    web_url: z.string().nullish(),
    ref: z.string().nullish(),
  })
  .transform(
    (job): ApiJob => ({
      id: job.id,
      name: job.name,
      status: job.status,
      tags: job.tag_list ?? [],
      createdAt: Date.parse(job.created_at) || 0,
      webUrl: job.web_url ?? "",
      ref: job.ref ?? "",
    }),
  );

/** Jobs with their tags, which webhooks do not carry. */
function createJobCalls(client: RestClient) {
  return {
    async pendingJobs(projectId: number, signal?: AbortSignal): Promise<ApiJob[]> {
      const path = `/projects/${projectId}/jobs?scope[]=pending&pagination=keyset&order_by=id&sort=desc`;
      const doing = `listing the pending jobs of project ${projectId}`;
      return await client.list(jobCall(byPages(path), doing, signal), Job);
    },

    async job(projectId: number, jobId: number, signal?: AbortSignal): Promise<ApiJob> {
      const doing = `reading job ${jobId} of project ${projectId}`;
      return await client.read(jobCall(`/projects/${projectId}/jobs/${jobId}`, doing, signal), Job);
    },

    async retryJob(project: string, jobId: number, signal?: AbortSignal): Promise<ApiJob> {
      const call: RestCall = {
        method: "POST",
        path: `/projects/${encodeURIComponent(project)}/jobs/${jobId}/retry`,
        doing: `retrying job ${jobId} of ${project}`,
        scope: "api",
        role: "the role Developer in the project, or higher, and the right to run jobs on its branch",
        missing:
          "it was deleted, or the API token cannot see it: make the token's user a member of the project",
        signal,
      };
      return await client.read(call, Job);
    },
  };
}

function jobCall(path: string, doing: string, signal: AbortSignal | undefined): RestCall {
  return {
    method: "GET",
    path,
    doing,
    scope: "read_api",
    role: "the role Reporter in the project, or higher",
    missing: "it was deleted, or the API token cannot see it: make the token's user a member of the project",
    signal,
  };
}

const Project = z
  .object({ id: z.number(), path_with_namespace: z.string() })
  .transform(({ id, path_with_namespace: path }): ApiProject => ({ id, path }));
const Group = z.object({ id: z.number(), full_path: z.string() });

/** Groups and projects, by path or id. */
function createProjectCalls(client: RestClient) {
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

const AccessToken = z.object({
  name: z.string().default(""),
  scopes: z.array(z.string()),
  /** A day: GitLab ends the token when it begins, in UTC. */
  expires_at: z.string().nullish(),
  active: z.boolean().default(true),
  user_id: z.number(),
});
const User = z.object({ username: z.string(), is_admin: z.boolean().nullish() });
const Member = z.object({ access_level: z.number() });

/** What the access token itself may do. Project and group access tokens are asked about in the same way as personal ones. */
function createTokenCalls(client: RestClient) {
  return {
    async tokenFacts(signal?: AbortSignal): Promise<TokenFacts> {
      const self = await client.read(selfCall(signal), AccessToken);
      const user = await ownUser(client, signal);
      return {
        name: self.name,
        scopes: self.scopes,
        expiresAt: self.expires_at ? dateMs(self.expires_at) : null,
        active: self.active,
        userId: self.user_id,
        username: user?.username ?? `user ${self.user_id}`,
        isAdmin: user?.is_admin ?? false,
      };
    },

    async accessLevel(scope: Scope, userId: number, signal?: AbortSignal): Promise<number | undefined> {
      if (scope.kind === "instance") return undefined;
      const call: RestCall = {
        method: "GET",
        path: `/${scope.kind}s/${scope.id}/members/all/${userId}`,
        doing: `reading the API token's role in ${scope.kind} ${scope.path}`,
        scope: "read_api",
        signal,
      };
      return await unlessMissing(client.read(call, Member).then((member) => member.access_level));
    },
  };
}

function selfCall(signal: AbortSignal | undefined): RestCall {
  return {
    method: "GET",
    path: "/personal_access_tokens/self",
    doing: "reading what the API token may do",
    scope: "read_api",
    missing: "this GitLab is older than 16.0, or gitlab.url is not the address of a GitLab",
    signal,
  };
}

/** Undefined for a token whose scopes do not let it look at its own user: what it may do is known without. */
async function ownUser(client: RestClient, signal: AbortSignal | undefined) {
  const call: RestCall = {
    method: "GET",
    path: "/user",
    doing: "reading the API token's user",
    scope: "read_user",
    signal,
  };
  try {
    return await client.read(call, User);
  } catch (error) {
    if (error instanceof GitLabError && error.code === "gitlab_forbidden") return undefined;
    throw error;
  }
}

/** A 404 as undefined: there is no such thing, or no longer. */
async function unlessMissing<T>(asking: Promise<T>): Promise<T | undefined> {
  try {
    return await asking;
  } catch (error) {
    if (error instanceof GitLabError && error.code === "gitlab_not_found") return undefined;
    throw error;
  }
}

function dateMs(text: string): number | null {
  const at = Date.parse(text);
  return Number.isNaN(at) ? null : at;
}
