/** The HTTP server: finds the handler of a request, and lets faults happen before and after it. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { downloadArtifact, uploadArtifact } from "./api/artifacts.ts";
import { appendTrace, updateJob } from "./api/jobs.ts";
import { deleteByToken, requestJob, resetToken, verify, version } from "./api/runners.ts";
import type { Core } from "./core.ts";
import { type Exchange, type Reply, refuse, send } from "./exchange.ts";
import type { Fault, Faults, RouteName } from "./faults.ts";
import { redirectToGit, serveGit } from "./git.ts";
import { type RestHandler, serveRest } from "./rest/access.ts";
import {
  createHook,
  deleteHook,
  groupHome,
  listHooks,
  projectHome,
  showHook,
  testHook,
  updateHook,
} from "./rest/hooks.ts";
import { cancelJob, listJobs, retryJob, showJob, showTrace } from "./rest/jobs.ts";
import {
  listGroupProjects,
  listProjects,
  showGroup,
  showGroupMember,
  showProject,
  showProjectMember,
  showToken,
  showUser,
} from "./rest/namespaces.ts";
import { createRunner } from "./rest/new-runners.ts";
import {
  deleteRunner,
  listAllRunners,
  listGroupRunners,
  listProjectRunners,
  listRunnerJobs,
  resetRunnerToken,
  showRunner,
  updateRunner,
} from "./rest/runners.ts";
import type { TokenScope } from "./tokens.ts";

/** One line of what was asked and answered. `status` 0: the connection was cut. */
export interface RequestRecord {
  readonly at: number;
  readonly route: RouteName | "unknown";
  readonly method: string;
  readonly path: string;
  readonly jobId: number | undefined;
  readonly status: number;
  readonly ms: number;
}

interface Target {
  readonly route: RouteName;
  readonly jobId: number | undefined;
  readonly params: readonly string[];
  handle(exchange: Exchange): Promise<Reply>;
}

interface ApiServerOptions {
  readonly core: Core;
  readonly faults: Faults;
  onRequest(record: RequestRecord): void;
}

/** The HTTP side: finds the handler, lets faults happen, sends the answer, keeps the record. */
export function createApiServer({ core, faults, onRequest }: ApiServerOptions): Server {
  const server = createServer({ requestTimeout: 0 }, (request, response) => {
    serve(request, response).catch(() => response.destroy());
  });

  function findTarget(request: IncomingMessage, url: URL): Target | undefined {
    for (const { name, method, path, handle } of routes) {
      const match = path.exec(url.pathname);
      if (!match || request.method !== method) continue;
      const params = match.slice(1).map((each) => decodeURIComponent(each ?? ""));
      const id = Number(match.groups?.["job"]);
      const jobId = Number.isInteger(id) ? id : undefined;
      return { route: name, jobId, params, handle: (exchange) => handle(core, exchange) };
    }
    return findGit(request, url);
  }

  function findGit(request: IncomingMessage, url: URL): Target | undefined {
    const git = { route: "git", jobId: undefined, params: [] } as const;
    if (request.method === "GET" && shortGitPath.test(url.pathname))
      return { ...git, handle: async (exchange) => redirectToGit(exchange) };
    const project = core.projects.at(gitPath.exec(decodeURIComponent(url.pathname))?.[1] ?? "");
    return project && { ...git, handle: (exchange) => serveGit(core, project, exchange) };
  }

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const at = core.clock.now();
    const url = new URL(request.url ?? "/", core.url());
    const target = findTarget(request, url);
    const fault = target && faults.take(target.route, target.jobId);
    const gone = new AbortController();
    response.once("close", () => gone.abort(new Error("the client is gone")));
    const { jobId, params = [] } = target ?? {};
    const exchange: Exchange = { request, url, jobId, params, at, signal: gone.signal };
    response.once("close", () => {
      onRequest({
        at,
        route: target?.route ?? "unknown",
        method: request.method ?? "",
        path: url.pathname,
        jobId,
        status: response.writableFinished ? response.statusCode : 0,
        ms: core.clock.now() - at,
      });
    });
    if (fault?.kind === "cut") return void response.destroy();
    await send(response, await answer(target, exchange, fault), fault, core.clock);
  }

  async function answer(
    target: Target | undefined,
    exchange: Exchange,
    fault: Fault | undefined,
  ): Promise<Reply> {
    if (!target) {
      core.report("unknown-route", `${exchange.request.method} ${exchange.url.pathname}`);
      return refuse(404, "404 Not Found");
    }
    if (fault?.kind === "status") return faultReply(fault);
    if (fault?.kind === "delay") await core.clock.sleep(fault.ms, exchange.signal);
    return await target.handle(exchange);
  }

  return server;
}

function faultReply(fault: Extract<Fault, { kind: "status" }>): Reply {
  const { status, headers = {}, html } = fault;
  if (!html) return refuse(status, `${status} injected`, { ...headers });
  const body = `<html><head><title>${status}</title></head><body><h1>${status}</h1>nginx</body></html>`;
  return { status, headers: { "Content-Type": "text/html", ...headers }, body };
}

type Handler = (core: Core, exchange: Exchange) => Promise<Reply>;

interface Route {
  readonly name: RouteName;
  readonly method: string;
  /** The group `job` is a job's id. */
  readonly path: RegExp;
  readonly handle: Handler;
}

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
const restRoutes: readonly RestRoute[] = [
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

/** What runners and users of the REST API may call, beside Git. */
const routes: readonly Route[] = [
  { name: "verify", method: "POST", path: /^\/api\/v4\/runners\/verify$/, handle: verify },
  { name: "request-job", method: "POST", path: /^\/api\/v4\/jobs\/request$/, handle: requestJob },
  { name: "update-job", method: "PUT", path: /^\/api\/v4\/jobs\/(?<job>\d+)$/, handle: updateJob },
  {
    name: "append-trace",
    method: "PATCH",
    path: /^\/api\/v4\/jobs\/(?<job>\d+)\/trace$/,
    handle: appendTrace,
  },
  {
    name: "upload-artifact",
    method: "POST",
    path: /^\/api\/v4\/jobs\/(?<job>\d+)\/artifacts$/,
    handle: uploadArtifact,
  },
  {
    name: "download-artifact",
    method: "GET",
    path: /^\/api\/v4\/jobs\/(?<job>\d+)\/artifacts$/,
    handle: downloadArtifact,
  },
  { name: "delete-runner-by-token", method: "DELETE", path: /^\/api\/v4\/runners$/, handle: deleteByToken },
  {
    name: "reset-runner-token",
    method: "POST",
    path: /^\/api\/v4\/runners\/reset_authentication_token$/,
    handle: resetToken,
  },
  { name: "version", method: "GET", path: /^\/api\/v4\/version$/, handle: version },
  ...restRoutes,
];

const shortGitPath = /^\/(?!api\/)(?:[\w.-]+\/)+(?:[\w.-]+(?<!\.git))\/info\/refs$/;

const gitPath =
  /^\/(.+)\.git\/(info\/refs|git-upload-pack|git-receive-pack|info\/lfs\/objects\/batch|gitlab-lfs\/objects\/[0-9a-f]{64})$/;
