import { z } from "zod";
import { GitLabError } from "./errors.ts";
import type { Scope, TokenFacts } from "./rest-api.ts";
import type { RestCall, RestClient } from "./rest-client.ts";

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
export function createTokenCalls(client: RestClient) {
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
