/** What the configuration says is served: a group, a project, or the whole GitLab. */
import type { NamedScope, Scope } from "../gitlab/rest-api.ts";
import type { WebhookConfig } from "./config.ts";

/** What the configuration says is served, before GitLab was asked for its id. */
export function namedScopeOf({ group, project }: Pick<WebhookConfig, "group" | "project">): NamedScope {
  if (group !== undefined) return { kind: "group", name: group };
  return project === undefined ? { kind: "instance" } : { kind: "project", name: project };
}

/** Asks GitLab once, and again after each failure: whoever needs the scope repeats in his own rhythm. */
export function createScopeSource(find: () => Promise<Scope>): () => Promise<Scope> {
  let asking: Promise<Scope> | undefined;
  return () => {
    asking ??= find().catch((error: unknown) => {
      asking = undefined;
      throw error;
    });
    return asking;
  };
}

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
