import type { Group, Project } from "../model.ts";
import { hasLevel, levelAt, type Role } from "../tokens.ts";
import type { RestCall } from "./access.ts";
import { forbidden, notFound } from "./refused.ts";

/** The project of the path, by id or encoded path. What the user may not see is not there. */
export function projectOf({ core, params, user }: RestCall, role: Role = "guest"): Project {
  const project = core.projects.find(params[0] ?? "");
  if (!project || !hasLevel(user, project.path, "guest")) throw notFound("Project");
  if (!hasLevel(user, project.path, role)) throw forbidden();
  return project;
}

/** As `projectOf`, for groups. */
export function groupOf(call: RestCall, role?: Role): Group {
  const group = call.core.groups.find(call.params[0] ?? "");
  if (!group || !maySee(call, group)) throw notFound("Group");
  if (role !== undefined && !hasLevel(call.user, group.path, role)) throw forbidden();
  return group;
}

/** A member of something below sees the groups above it. */
function maySee({ user }: RestCall, group: Group): boolean {
  return (
    hasLevel(user, group.path, "guest") ||
    user.memberships.some(({ path }) => path?.startsWith(`${group.path}/`))
  );
}

export function isMember({ user }: RestCall, project: Project): boolean {
  return levelAt(user, project.path) !== undefined;
}
