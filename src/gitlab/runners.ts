import { z } from "zod";
import { Secret } from "../base/secret.ts";
import type { RestCall } from "./answer.ts";
import { GitLabError } from "./errors.ts";
import type { ApiRunner, NewApiRunner, RunnerTokenGiven, Scope } from "./rest-api.ts";
import type { RestClient } from "./rest-client.ts";
import { byPages } from "./rest-client.ts";
import { expiresAt } from "./runner-client.ts";

/** GitLab's `TAG_LIST_MAX_LENGTH`. */
const MOST_TAGS = 50;

const CreatedRunner = z.object({ id: z.number(), token: z.string().min(1), token_expires_at: expiresAt });
const Runner = z
  .object({
    id: z.number(),
    description: z.string().nullish(),
    paused: z.boolean().nullish(),
    online: z.boolean().nullish(),
  })
  .transform(
    ({ id, description, paused, online }): ApiRunner => ({
      id,
      description: description ?? "",
      paused: paused ?? false,
      online: online ?? undefined,
    }),
  );

/** The runners of a group, a project or the instance: GitLab's records of them, not the programs. */
export function createRunnerCalls(client: RestClient) {
  return {
    async createRunner(
      runner: NewApiRunner,
      signal?: AbortSignal,
    ): Promise<RunnerTokenGiven & { readonly id: number }> {
      if (runner.tags.length > MOST_TAGS) throw tooManyTags(runner);
      const { id, token, token_expires_at } = await client.read(creation(runner, signal), CreatedRunner);
      return { id, token: new Secret(token), tokenExpiresAt: token_expires_at };
    },

    async runnersOf(scope: Scope, signal?: AbortSignal): Promise<ApiRunner[]> {
      const all = scope.kind === "instance" ? "/runners/all" : `/${scope.kind}s/${scope.id}/runners`;
      const call: RestCall = {
        method: "GET",
        path: byPages(`${all}?type=${scope.kind}_type`),
        doing: `listing the runners of ${nameOf(scope)}`,
        scope: "read_api",
        role: roleFor(scope),
        signal,
      };
      return await client.list(call, Runner);
    },

    async restoreRunner(
      id: number,
      settings: Pick<NewApiRunner, "tags" | "protected">,
      signal?: AbortSignal,
    ): Promise<void> {
      const call: RestCall = {
        method: "PUT",
        path: `/runners/${id}`,
        body: settingsOf(settings),
        doing: `setting the tags and the protection of runner ${id}`,
        scope: "manage_runner",
        role: "the role that may create such a runner",
        signal,
      };
      await client.send(call).catch(tolerateMissing);
    },

    async deleteRunner(id: number, signal?: AbortSignal): Promise<void> {
      const call: RestCall = {
        method: "DELETE",
        path: `/runners/${id}`,
        doing: `deleting runner ${id}`,
        scope: "manage_runner",
        role: "the role that may create such a runner; a runner of several projects only an administrator deletes",
        signal,
      };
      await client.send(call).catch(tolerateMissing);
    },

    async hasRunningJobs(id: number, signal?: AbortSignal): Promise<boolean> {
      return (
        (await hasJobs(client, id, "running", signal)) || (await hasJobs(client, id, "canceling", signal))
      );
    },
  };
}

function creation(runner: NewApiRunner, signal: AbortSignal | undefined): RestCall {
  const { scope, description } = runner;
  return {
    method: "POST",
    path: "/user/runners",
    body: {
      runner_type: `${scope.kind}_type`,
      ...(scope.kind === "group" ? { group_id: scope.id } : {}),
      ...(scope.kind === "project" ? { project_id: scope.id, locked: true } : {}),
      description,
      ...settingsOf(runner),
    },
    doing: `creating a runner for ${nameOf(scope)}`,
    scope: "create_runner",
    role: roleFor(scope),
    advise: adviseOnCreation,
    signal,
  };
}

function settingsOf({ tags, protected: isProtected }: Pick<NewApiRunner, "tags" | "protected">): object {
  return {
    tag_list: tags,
    run_untagged: false,
    access_level: isProtected ? "ref_protected" : "not_protected",
  };
}

function adviseOnCreation(words: string): string | undefined {
  if (/maximum number of .*runners.*exceeded/i.test(words)) {
    return "delete runners that nobody uses (“firerunner runner prune” deletes ours), let webhook.runners.most stay below the limit, or raise it: it is a matter of the plan on GitLab.com, an instance limit elsewhere";
  }
  if (/tag/i.test(words)) return `a runner has 1 to ${MOST_TAGS} tags: change the tags of the job`;
  return undefined;
}

function tooManyTags({ scope, tags }: NewApiRunner): GitLabError {
  const doing = `creating a runner for ${nameOf(scope)}`;
  return new GitLabError("gitlab_refused", `${doing}: GitLab takes ${MOST_TAGS} tags, not ${tags.length}`, {
    hint: "give the job fewer tags",
  });
}

async function hasJobs(
  client: RestClient,
  id: number,
  status: "running" | "canceling",
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const call: RestCall = {
    method: "GET",
    path: `/runners/${id}/jobs?status=${status}&per_page=1`,
    doing: `looking for ${status} jobs of runner ${id}`,
    scope: "manage_runner",
    role: "the role Maintainer where the runner belongs, or higher",
    signal,
  };
  try {
    return (await client.read(call, z.array(z.unknown()))).length > 0;
  } catch (error) {
    // A GitLab before 17.0 has no such status, and refuses to look for it.
    if (status === "canceling" && error instanceof GitLabError && error.code === "gitlab_refused")
      return false;
    tolerateMissing(error);
    return false;
  }
}

/** One that is gone already is as good as deleted, and has no jobs. */
function tolerateMissing(error: unknown): void {
  if (!(error instanceof GitLabError) || error.code !== "gitlab_not_found") throw error;
}

function nameOf(scope: Scope): string {
  return scope.kind === "instance" ? "the instance" : `${scope.kind} ${scope.path}`;
}

/** GitLab's documentation asks for Owner in projects too, its code for Maintainer. */
function roleFor(scope: Scope): string {
  switch (scope.kind) {
    case "instance":
      return "an administrator as its user, and the scope admin_mode where Admin Mode is on";
    case "group":
      return `the role Owner in group ${scope.path}, which must not have switched off the creation of runners`;
    case "project":
      return `the role Maintainer in project ${scope.path} (Owner in some versions of GitLab), which must not have switched off the creation of runners`;
  }
}
