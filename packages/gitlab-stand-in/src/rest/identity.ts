import { json, type Reply } from "../exchange.ts";
import { isExpired, levelAt, type User } from "../tokens.ts";
import type { RestCall } from "./access.ts";
import { notFound } from "./refused.ts";
import { groupOf, projectOf } from "./scopes.ts";

/** `GET /personal_access_tokens/self`: every scope may ask. */
export function showToken({ core, token }: RestCall): Reply {
  return json(200, {
    id: token.id,
    name: token.name,
    description: null,
    revoked: token.revoked,
    created_at: new Date(token.createdAt).toISOString(),
    scopes: token.scopes,
    user_id: token.user.id,
    last_used_at: new Date(core.clock.now()).toISOString(),
    active: !token.revoked && !isExpired(token, core.clock.now()),
    expires_at: token.expiresAt ?? null,
  });
}

/** `GET /user`. Only administrators are told whether they are. */
export function showUser({ core, user }: RestCall): Reply {
  return json(200, {
    ...userEntity(user, core.url()),
    bot: user.username.startsWith("bot-"),
    ...(user.admin ? { is_admin: true } : {}),
  });
}

/** `GET /groups|projects/:id/members/all/:user_id`: with roles inherited from above. */
export function showGroupMember(call: RestCall): Reply {
  return memberReply(call, groupOf(call).path);
}

export function showProjectMember(call: RestCall): Reply {
  return memberReply(call, projectOf(call).path);
}

function memberReply({ core, params }: RestCall, path: string): Reply {
  const member = core.tokens.user(Number(params[1]));
  const level = member && levelAt(member, path);
  if (!member || level === undefined) throw notFound();
  return json(200, {
    ...userEntity(member, core.url()),
    access_level: level,
    created_at: new Date(0).toISOString(),
    expires_at: null,
    membership_state: "active",
  });
}

export function userEntity(user: User, serverUrl: string): Record<string, unknown> {
  return {
    id: user.id,
    username: user.username,
    public_email: null,
    name: user.username,
    state: "active",
    locked: false,
    avatar_url: null,
    web_url: `${serverUrl}/${user.username}`,
  };
}
