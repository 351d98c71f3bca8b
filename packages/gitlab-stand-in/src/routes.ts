import { appendTrace } from "./api/append-trace.ts";
import { downloadArtifact, uploadArtifact } from "./api/artifacts.ts";
import { requestJob } from "./api/request-job.ts";
import { deleteByToken, resetToken } from "./api/runner-tokens.ts";
import { updateJob } from "./api/update-job.ts";
import { verify } from "./api/verify.ts";
import { version } from "./api/version.ts";
import type { Core } from "./core.ts";
import type { Exchange, Reply } from "./exchange.ts";
import type { RouteName } from "./faults.ts";
import { restRoutes } from "./rest/routes.ts";

type Handler = (core: Core, exchange: Exchange) => Promise<Reply>;

export interface Route {
  readonly name: RouteName;
  readonly method: string;
  /** The group `job` is a job's id. */
  readonly path: RegExp;
  readonly handle: Handler;
}

/** What runners and users of the REST API may call, beside Git. */
export const routes: readonly Route[] = [
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

export const shortGitPath = /^\/(?!api\/)(?:[\w.-]+\/)+(?:[\w.-]+(?<!\.git))\/info\/refs$/;
export const gitPath =
  /^\/(.+)\.git\/(info\/refs|git-upload-pack|git-receive-pack|info\/lfs\/objects\/batch|gitlab-lfs\/objects\/[0-9a-f]{64})$/;
