import type { Core } from "../core.ts";
import type { Exchange, Reply } from "../exchange.ts";
import type { RouteName } from "../faults.ts";
import type { TokenScope } from "../tokens.ts";
import { type RestHandler, serveRest } from "./access.ts";
import {
  createHook,
  deleteHook,
  groupHome,
  listHooks,
  projectHome,
  showHook,
  testHook,
  updateHook,
} from "./hooks.ts";
import { cancelJob, listJobs, retryJob, showJob, showTrace } from "./jobs.ts";
import {
  listGroupProjects,
  listProjects,
  showGroup,
  showGroupMember,
  showProject,
  showProjectMember,
  showToken,
  showUser,
} from "./namespaces.ts";
import { createRunner } from "./new-runners.ts";
import {
  deleteRunner,
  listAllRunners,
  listGroupRunners,
  listProjectRunners,
  listRunnerJobs,
  resetRunnerToken,
  showRunner,
  updateRunner,
} from "./runners.ts";

interface RestRoute {
  readonly name: RouteName;
  readonly method: string;
  readonly path: RegExp;
  handle(core: Core, exchange: Exchange): Promise<Reply>;
}

/** `path` with `:name` for one part of it; the part of `:job` is the id of a job. */
function route(
  name: RouteName,
  method: string,
  path: string,
  handle: RestHandler,
  scopes: readonly TokenScope[] | "any" = [],
): RestRoute {
  const pattern = path.replace(/:job\b/, "(?<job>[^/]+)").replace(/:[a-z]+/g, "([^/]+)");
  return {
    name,
    method,
    path: new RegExp(`^/api/v4${pattern}$`),
    handle: (core, exchange) => serveRest(core, exchange, scopes, handle),
  };
}

// `manage_runner` is good for addresses with a runner's id, and for nothing else, whatever the documentation says.
const manage: readonly TokenScope[] = ["manage_runner"];

/** What an access token opens. */
export const restRoutes: readonly RestRoute[] = [
  route("rest-token", "GET", "/personal_access_tokens/self", showToken, "any"),
  route("rest-user", "GET", "/user", showUser, ["read_user"]),
  route("rest-group", "GET", "/groups/:id", showGroup),
  route("rest-group-projects", "GET", "/groups/:id/projects", listGroupProjects),
  route("rest-member", "GET", "/groups/:id/members/all/:user", showGroupMember),
  route("rest-projects", "GET", "/projects", listProjects),
  route("rest-project", "GET", "/projects/:id", showProject),
  route("rest-member", "GET", "/projects/:id/members/all/:user", showProjectMember),
  route("rest-jobs", "GET", "/projects/:id/jobs", listJobs),
  route("rest-job", "GET", "/projects/:id/jobs/:job", showJob),
  route("rest-job", "GET", "/projects/:id/jobs/:job/trace", showTrace),
  route("rest-job", "POST", "/projects/:id/jobs/:job/cancel", cancelJob),
  route("rest-job", "POST", "/projects/:id/jobs/:job/retry", retryJob),
  route("rest-create-runner", "POST", "/user/runners", createRunner, ["create_runner"]),
  route("rest-list-runners", "GET", "/runners/all", listAllRunners),
  route("rest-list-runners", "GET", "/groups/:id/runners", listGroupRunners),
  route("rest-list-runners", "GET", "/projects/:id/runners", listProjectRunners),
  route("rest-show-runner", "GET", "/runners/:id", showRunner, manage),
  route("rest-update-runner", "PUT", "/runners/:id", updateRunner, manage),
  route("rest-delete-runner", "DELETE", "/runners/:id", deleteRunner, manage),
  route("rest-runner-jobs", "GET", "/runners/:id/jobs", listRunnerJobs, manage),
  route("rest-update-runner", "POST", "/runners/:id/reset_authentication_token", resetRunnerToken, manage),
  ...hookRoutes("/projects", projectHome),
  ...hookRoutes("/groups", groupHome),
];

function hookRoutes(above: string, home: Parameters<typeof listHooks>[1]): RestRoute[] {
  const hooks = `${above}/:id/hooks`;
  return [
    route("rest-hooks", "GET", hooks, (call) => listHooks(call, home)),
    route("rest-hooks", "POST", hooks, (call) => createHook(call, home)),
    route("rest-hooks", "GET", `${hooks}/:hook`, (call) => showHook(call, home)),
    route("rest-hooks", "PUT", `${hooks}/:hook`, (call) => updateHook(call, home)),
    route("rest-hooks", "DELETE", `${hooks}/:hook`, (call) => deleteHook(call, home)),
    route("rest-hook-test", "POST", `${hooks}/:hook/test/:trigger`, (call) => testHook(call, home)),
  ];
}
