import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { dirname } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { MIB_BYTES } from "../../../src/base/units.ts";
import { isTokenOf } from "./api/jobs.ts";
import type { Core } from "./core.ts";
import { type Exchange, json, type Reply, readBody, refuse } from "./exchange.ts";
import { isProcessing, type Project } from "./model.ts";

const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/**
 * Smart HTTP for a clone with the token of a running job, served by Git's own `http-backend`. Without credentials the answer
 * is 401, which is how every Git client begins.
 */
export async function serveGit(core: Core, project: Project, exchange: Exchange): Promise<Reply> {
  const { authorization } = exchange.request.headers;
  if (authorization === undefined) return challenge();
  const [user, password = ""] = basicCredentials(authorization);
  const job = core.jobs.all().find((each) => password !== "" && isTokenOf(core, each, password));
  if (user !== "gitlab-ci-token" || !job || !isProcessing(job)) {
    if (!job?.canceledAt) core.report("wrong-token", "Git without a running job's token", job?.id);
    return challenge();
  }
  if (job.project !== project && !project.jobTokenAllowlist.includes(job.project.path)) {
    // As for a project that there is not: who may not read it does not learn of it.
    return refuse(
      404,
      "The project you were looking for could not be found or you don't have permission to view it.",
    );
  }
  if (/\.git\/(?:info\/lfs|gitlab-lfs)\//.test(exchange.url.pathname))
    return await serveLfs(project, exchange);
  if (project.repository === undefined) return refuse(404, "404 Not Found");
  if (/git-receive-pack/.test(exchange.url.href)) return refuse(403, "You are not allowed to push code");
  return await runBackend(project.repository, exchange);
}

/**
 * The handshake of a clone from an address without `.git`: one redirect to the address with it, before anybody is asked who they are, for
 * exactly the queries that Git sends. Nothing else is served without `.git`.
 */
export function redirectToGit({ url }: Exchange): Reply {
  const handshakes = ["", "?service=git-upload-pack", "?service=git-receive-pack"];
  if (!handshakes.includes(url.search)) return refuse(404, "404 Not Found");
  const path = url.pathname.replace(/\/info\/refs$/, ".git/info/refs");
  return { status: 301, headers: { Location: `${url.origin}${path}${url.search}` }, body: "" };
}

function challenge(): Reply {
  return {
    status: 401,
    headers: { "WWW-Authenticate": 'Basic realm="GitLab"', "Content-Type": "text/plain" },
    body: "HTTP Basic: Access denied\n",
  };
}

function basicCredentials(authorization: string): string[] {
  const encoded = /^Basic (.+)$/i.exec(authorization)?.[1] ?? "";
  return Buffer.from(encoded, "base64").toString("utf8").split(":");
}

async function runBackend(repository: string, exchange: Exchange): Promise<Reply> {
  const { request, url, signal } = exchange;
  const name = url.pathname.slice(url.pathname.indexOf(".git/") + ".git".length);
  const child = spawn("git", ["http-backend"], {
    env: {
      PATH,
      GIT_PROJECT_ROOT: dirname(repository),
      GIT_HTTP_EXPORT_ALL: "1",
      PATH_INFO: `/${repository.split("/").at(-1)}${name}`,
      QUERY_STRING: url.search.slice(1),
      REQUEST_METHOD: request.method ?? "GET",
      CONTENT_TYPE: request.headers["content-type"] ?? "",
      CONTENT_LENGTH: request.headers["content-length"] ?? "",
      HTTP_CONTENT_ENCODING: String(request.headers["content-encoding"] ?? ""),
      GIT_PROTOCOL: String(request.headers["git-protocol"] ?? ""),
      REMOTE_USER: "gitlab-ci-token",
      REMOTE_ADDR: "127.0.0.1",
      GIT_CONFIG_NOSYSTEM: "1",
      GIT_CONFIG_COUNT: "1",
      GIT_CONFIG_KEY_0: "safe.directory",
      GIT_CONFIG_VALUE_0: "*",
    },
  });
  const stop = () => child.kill("SIGKILL");
  signal.addEventListener("abort", stop, { once: true });
  child.once("close", () => signal.removeEventListener("abort", stop));
  // A backend that has heard enough closes its input; what it answers says whether that was right.
  pipeline(request, child.stdin).catch(() => {});
  child.stderr.resume();
  return await readCgiReply(child);
}

/** Takes the header lines off a CGI program's output and leaves the rest as a stream. */
async function readCgiReply(child: ChildProcessWithoutNullStreams): Promise<Reply> {
  const { head, rest } = await splitHead(child.stdout);
  const headers: Record<string, string> = {};
  for (const line of head.split(/\r?\n/)) {
    const colon = line.indexOf(":");
    if (colon > 0) headers[line.slice(0, colon)] = line.slice(colon + 1).trim();
  }
  const { Status: status = "200", ...others } = headers;
  child.stdout.unshift(rest);
  return { status: Number.parseInt(status, 10), headers: others, body: child.stdout };
}

async function splitHead(output: Readable): Promise<{ head: string; rest: Buffer }> {
  let seen = Buffer.alloc(0);
  return await new Promise((resolve, reject) => {
    const fail = () => reject(new Error("git http-backend ended without an answer"));
    function read(): void {
      for (let chunk = output.read(); chunk !== null; chunk = output.read()) {
        seen = Buffer.concat([seen, chunk]);
        const end = /\r?\n\r?\n/.exec(seen.subarray(0, 8_192).toString("latin1"));
        if (!end) continue;
        output.off("readable", read).off("end", fail);
        const head = seen.subarray(0, end.index).toString("latin1");
        resolve({ head, rest: seen.subarray(end.index + end[0].length) });
        return;
      }
    }
    output.on("readable", read).once("end", fail);
  });
}

const MAX_BATCH_BYTES = MIB_BYTES;
const MEDIA_TYPE = "application/vnd.git-lfs+json";

interface Wanted {
  readonly oid: string;
  readonly size: number;
}

/** Downloads of Git LFS for a caller that may read the project: the list of where each file is, and the files. */
async function serveLfs(project: Project, exchange: Exchange): Promise<Reply> {
  const oid = /\/gitlab-lfs\/objects\/([0-9a-f]{64})$/.exec(exchange.url.pathname)?.[1];
  if (oid === undefined) return await batch(project, exchange);
  const body = project.largeFiles.get(oid);
  if (body === undefined || exchange.request.method !== "GET") return refuse(404, "404 Not Found");
  return {
    status: 200,
    headers: { "Content-Type": "application/octet-stream" },
    body: Readable.from([body]),
  };
}

/** As GitLab: addresses at its own name, and the caller's own credentials to be sent there. */
async function batch({ largeFiles }: Project, { request, url }: Exchange): Promise<Reply> {
  const asked = JSON.parse((await readBody(request, MAX_BATCH_BYTES)).toString("utf8"));
  if (asked.operation !== "download") return refuse(403, "This project does not take large files here");
  const at = url.href.replace(/info\/lfs\/objects\/batch$/, "gitlab-lfs/objects/");
  const header = { Authorization: request.headers.authorization ?? "" };
  const objects = (asked.objects as Wanted[]).map(({ oid, size }) =>
    largeFiles.has(oid)
      ? { oid, size, authenticated: true, actions: { download: { href: `${at}${oid}`, header } } }
      : { oid, size, error: { code: 404, message: "Object does not exist on the server" } },
  );
  return json(200, { objects }, { "Content-Type": MEDIA_TYPE });
}
