import { json, type Reply } from "../exchange.ts";
import type { Group, Project } from "../model.ts";
import { isWithin, parentPath } from "../projects.ts";
import { hasLevel, isExpired, levelAt, type User } from "../tokens.ts";
import { groupOf, isMember, projectOf, type RestCall } from "./access.ts";
import { notFound, page } from "./input.ts";

/** `GET /groups/:id`. */
export function showGroup(call: RestCall): Reply {
  return json(200, groupEntity(groupOf(call), call.core.url()));
}

/** `GET /projects/:id`. */
export function showProject(call: RestCall): Reply {
  return json(200, projectEntity(projectOf(call), call));
}

/** `GET /groups/:id/projects`: with `include_subgroups` those of the groups below, too. */
export function listGroupProjects(call: RestCall): Reply {
  const group = groupOf(call);
  const deep = call.input.boolean("include_subgroups") ?? false;
  return projectPage(call, (project) =>
    deep ? isWithin(project.path, group.path) : parentPath(project.path) === group.path,
  );
}

/** `GET /projects`: what the user may see; with `membership` only what the user is a member of. */
export function listProjects(call: RestCall): Reply {
  const membership = call.input.boolean("membership") ?? false;
  return projectPage(call, (project) => !membership || isMember(call, project));
}

function projectPage(call: RestCall, fits: (project: Project) => boolean): Reply {
  const archived = call.input.boolean("archived");
  const shown = call.core.projects
    .all()
    .filter((project) => hasLevel(call.user, project.path, "guest"))
    .filter((project) => archived === undefined || project.archived === archived)
    .filter(fits)
    .toReversed();
  return page(call, shown, (project) => projectEntity(project, call), { keyset: true });
}

function groupEntity(group: Group, serverUrl: string): Record<string, unknown> {
  const name = lastPart(group.path);
  return {
    id: group.id,
    web_url: `${serverUrl}/groups/${group.path}`,
    name,
    path: name,
    description: "",
    visibility: "private",
    full_name: group.path.split("/").join(" / "),
    full_path: group.path,
    created_at: new Date(0).toISOString(),
    parent_id: group.parentId ?? null,
  };
}

function projectEntity(project: Project, { core }: RestCall): Record<string, unknown> {
  const name = lastPart(project.path);
  const namespacePath = parentPath(project.path) ?? "";
  const namespace = core.groups.find(namespacePath);
  return {
    id: project.id,
    description: null,
    name,
    name_with_namespace: project.path.split("/").join(" / "),
    path: name,
    path_with_namespace: project.path,
    created_at: new Date(0).toISOString(),
    default_branch: project.defaultBranch,
    http_url_to_repo: `${core.url()}/${project.path}.git`,
    web_url: `${core.url()}/${project.path}`,
    archived: project.archived,
    visibility: "private",
    jobs_enabled: true,
    shared_runners_enabled: true,
    namespace: {
      id: namespace?.id ?? null,
      name: lastPart(namespacePath),
      path: lastPart(namespacePath),
      kind: "group",
      full_path: namespacePath,
      parent_id: namespace?.parentId ?? null,
    },
  };
}

function lastPart(path: string): string {
  return path.split("/").at(-1) ?? path;
}

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
