import type { Scope } from "../gitlab/rest-api.ts";

/** Whether runners of this scope can have the project's jobs. A project whose path is not known yet belongs to nothing. */
export function belongsTo(scope: Scope, project: { readonly id: number; readonly path: string }): boolean {
  if (scope.kind === "project") return project.id === scope.id;
  if (project.path === "") return false;
  return scope.kind === "instance" || project.path.startsWith(`${scope.path}/`);
}

/** `group example/apps`. For people. */
export function describeScope(scope: Scope): string {
  return scope.kind === "instance" ? "the whole GitLab" : `${scope.kind} ${scope.path}`;
}
