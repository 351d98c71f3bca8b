import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { downloadArtifact, uploadArtifact } from "./api/artifacts.ts";
import { appendTrace, updateJob } from "./api/jobs.ts";
import { deleteByToken, requestJob, resetToken, verify, version } from "./api/runners.ts";
import type { Core } from "./core.ts";
import { type Exchange, type Reply, refuse, send } from "./exchange.ts";
import type { Fault, Faults, RouteName } from "./faults.ts";
import { redirectToGit, serveGit } from "./git.ts";
import { restRoutes } from "./rest/routes.ts";

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
