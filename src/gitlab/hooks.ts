import { z } from "zod";
import type { RestCall } from "./answer.ts";
import { GitLabError } from "./errors.ts";
import type { ApiHook, HookSettings, Scope } from "./rest-api.ts";
import type { RestClient } from "./rest-client.ts";
import { byPages } from "./rest-client.ts";

const Hook = z
  .object({
    id: z.number(),
    url: z.string(),
    alert_status: z.string().nullish(),
    disabled_until: z.string().nullish(),
    job_events: z.boolean().nullish(),
    pipeline_events: z.boolean().nullish(),
    enable_ssl_verification: z.boolean().nullish(),
    signing_token_present: z.boolean().nullish(),
  })
  .transform(
    (hook): ApiHook => ({
      id: hook.id,
      url: hook.url,
      alertStatus: hook.alert_status ?? undefined,
      disabledUntil: hook.disabled_until ? Date.parse(hook.disabled_until) || undefined : undefined,
      jobEvents: hook.job_events ?? false,
      pipelineEvents: hook.pipeline_events ?? false,
      sslVerification: hook.enable_ssl_verification ?? true,
      signingTokenPresent: hook.signing_token_present ?? undefined,
    }),
  );

/** Webhooks of a group or a project. An instance has none: GitLab's system hooks know no job events. */
export function createHookCalls(client: RestClient) {
  return {
    async hooksOf(scope: Scope, signal?: AbortSignal): Promise<ApiHook[]> {
      const { place, where, needs } = hookPlace(scope);
      const doing = `listing the webhooks of ${where}`;
      const path = byPages(place);
      const call: RestCall = { method: "GET", path, doing, ...needs, scope: "read_api", signal };
      return await client.list(call, Hook);
    },

    async createHook(scope: Scope, settings: HookSettings, signal?: AbortSignal): Promise<ApiHook> {
      const { place, where, needs } = hookPlace(scope);
      const doing = `creating a webhook in ${where}`;
      const call: RestCall = { method: "POST", path: place, body: bodyOf(settings), doing, ...needs, signal };
      return await client.read(call, Hook);
    },

    async updateHook(
      scope: Scope,
      id: number,
      settings: HookSettings,
      signal?: AbortSignal,
    ): Promise<ApiHook> {
      const { place, where, needs } = hookPlace(scope);
      const doing = `changing webhook ${id} of ${where}`;
      const path = `${place}/${id}`;
      const call: RestCall = { method: "PUT", path, body: bodyOf(settings), doing, ...needs, signal };
      return await client.read(call, Hook);
    },

    async testHook(
      scope: Scope,
      id: number,
      event: "job_events" | "pipeline_events",
      signal?: AbortSignal,
    ): Promise<void> {
      const { place, where, needs } = hookPlace(scope);
      const doing = `testing webhook ${id} of ${where}`;
      const path = `${place}/${id}/test/${event}`;
      await client.send({ method: "POST", path, doing, ...needs, signal });
    },
  };
}

/** Only job and pipeline events: GitLab sends push events unless told otherwise. A webhook that is repaired verifies certificates again. */
function bodyOf({ url, signingToken, token }: HookSettings): object {
  return {
    url,
    push_events: false,
    job_events: true,
    pipeline_events: true,
    enable_ssl_verification: true,
    ...(signingToken ? { signing_token: signingToken.reveal() } : {}),
    ...(token ? { token: token.reveal() } : {}),
  };
}

type Needs = Pick<RestCall, "scope" | "role" | "missing" | "advise">;

function hookPlace(scope: Scope): { place: string; where: string; needs: Needs } {
  if (scope.kind === "instance") {
    throw new GitLabError("gitlab_refused", "looking for webhooks: GitLab has none for a whole instance", {
      hint: "its system hooks have no job events: use webhooks of groups or projects, or let the poll find the jobs",
    });
  }
  const where = `${scope.kind} ${scope.path}`;
  const group = scope.kind === "group";
  const role = group ? `the role Owner in ${where}` : `the role Maintainer in ${where}, or higher`;
  return {
    place: `/${scope.kind}s/${scope.id}/hooks`,
    where,
    needs: {
      scope: "api",
      role: group ? `${role}, and GitLab Premium or Ultimate` : role,
      missing: group
        ? "webhooks of groups need GitLab Premium or Ultimate: without, make one in each project; or the webhook was deleted"
        : "the webhook was deleted, or the API token's user may not see it",
      advise,
    },
  };
}

function advise(words: string): string | undefined {
  if (/local network|not allowed|blocked/i.test(words)) {
    return "let an administrator allow requests to the local network from webhooks (Admin area, Settings, Network, Outbound requests), or use an address that GitLab may reach";
  }
  if (/maximum number/i.test(words))
    return "delete webhooks that nobody uses: 100 in a project, 50 in a group";
  return undefined;
}
