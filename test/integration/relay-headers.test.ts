import {
  createServer,
  request as httpRequest,
  type IncomingHttpHeaders,
  type IncomingMessage,
} from "node:http";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type BenchMachine, createRelayBench, type RelayBench } from "./relay-bench.ts";

/** What nginx, Workhorse, Rack and Rails believe of whoever may say it; each in the spellings that a server may take for the same. */
const forged = [
  "X-Forwarded-For",
  "X-Forwarded-Host",
  "X-Forwarded-Proto",
  "X-Forwarded-Prefix",
  "Forwarded",
  "X-Real-IP",
  "X-Client-IP",
  "True-Client-IP",
  "Via",
  "X-HTTP-Method-Override",
  "X-Original-URL",
  "X-Rewrite-URL",
  "X-Sendfile-Type",
  "X-Accel-Mapping",
  "Gitlab-Workhorse",
  "Gitlab-Workhorse-Api-Request",
  "Gitlab-Workhorse-Proxy-Start",
  "X-Gitlab-Geo-Node",
  "X-Request-Id",
  "Cookie",
  "X-Csrf-Token",
  "Private-Token",
  "Proxy-Authorization",
  "X-Custom",
].flatMap((name) => [name, name.toUpperCase(), name.replaceAll("-", "_"), name.replaceAll("-", ".")]);

/** A header that the relay itself has need of, or that HTTP brings with a body. */
const ofTheHop = ["connection", "content-length", "host", "transfer-encoding"];

let bench: RelayBench;
let machine: BenchMachine;
let seen: { url: string; headers: IncomingHttpHeaders }[];
let closeGitLab: () => Promise<unknown>;

beforeEach(async () => {
  seen = [];
  const server = createServer((request: IncomingMessage, response) => {
    seen.push({ url: request.url ?? "", headers: request.headers });
    request.resume();
    const status = request.method === "PATCH" ? 202 : 200;
    response.writeHead(status, { "Job-Status": "running", "Set-Cookie": "a=b", "X-Kept": "1" }).end("{}");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const gitlabUrl = `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`;
  closeGitLab = () => new Promise((resolve) => server.close(resolve));
  bench = await createRelayBench({ gitlabUrl });
  machine = await bench.machine();
  await machine.handOver();
});

afterEach(async () => {
  await bench.close();
  await closeGitLab();
});

/** As the runner's, git's and git-lfs's real requests are, with every forged header beside. */
async function send(
  method: string,
  path: string,
  headers: Record<string, string>,
  body = "",
): Promise<IncomingHttpHeaders> {
  const lies = Object.fromEntries(forged.slice(0, 90).map((name) => [name, "6.6.6.6"]));
  return await new Promise((resolve, reject) => {
    const request = httpRequest(
      { socketPath: machine.socketPath, method, path, headers: { Host: "10.0.2.100", ...lies, ...headers } },
      (response) => {
        response.resume();
        response.once("end", () => resolve(response.headers));
      },
    );
    request.once("error", reject);
    request.end(body);
  });
}

const runner = { "User-Agent": "gitlab-runner 18.5.0 (18-5-stable; go1.24; linux/amd64)" };
const git = { "User-Agent": "git/2.39.5", Authorization: "Basic eDp5" };
const oid = "a".repeat(64);

interface Sent {
  readonly method: string;
  readonly path: string;
  readonly query: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
}

const requests: readonly [what: string, make: (jobId: number, token: string) => Sent][] = Object.entries({
  "an update of the job": (jobId, token) => ({
    method: "PUT",
    path: `/api/v4/jobs/${jobId}`,
    query: "",
    headers: {
      ...runner,
      Accept: "application/json",
      "Content-Type": "application/json",
      "JOB-TOKEN": token,
    },
    body: JSON.stringify({ token, state: "running" }),
  }),
  "a piece of the log": (jobId, token) => ({
    method: "PATCH",
    path: `/api/v4/jobs/${jobId}/trace`,
    query: "?debug_trace=false",
    headers: { ...runner, "Content-Type": "text/plain", "Content-Range": "0-0", "JOB-TOKEN": token },
    body: "x",
  }),
  "an upload": (jobId, token) => ({
    method: "POST",
    path: `/api/v4/jobs/${jobId}/artifacts`,
    query: "?artifact_format=zip&artifact_type=archive&expire_in=1+week",
    headers: { ...runner, "Content-Type": "multipart/form-data; boundary=x", "JOB-TOKEN": token },
    body: "--x--",
  }),
  "a download": (jobId, token) => ({
    method: "GET",
    path: `/api/v4/jobs/${jobId}/artifacts`,
    query: "?direct_download=true",
    headers: { ...runner, "Accept-Encoding": "gzip", "JOB-TOKEN": token, Range: "bytes=5-" },
  }),
  "git's list": () => ({
    method: "GET",
    path: "/group/project.git/info/refs",
    query: "?service=git-upload-pack",
    headers: {
      ...git,
      Accept: "*/*",
      "Accept-Encoding": "deflate, gzip",
      "Accept-Language": "C",
      Pragma: "no-cache",
      "Git-Protocol": "version=2",
    },
  }),
  "git's fetch": () => ({
    method: "POST",
    path: "/group/project.git/git-upload-pack",
    query: "",
    headers: {
      ...git,
      Accept: "application/x-git-upload-pack-result",
      "Content-Type": "application/x-git-upload-pack-request",
      "Content-Encoding": "gzip",
      "Git-Protocol": "version=2",
    },
    body: "0000",
  }),
  "a batch of large files": () => ({
    method: "POST",
    path: "/group/project.git/info/lfs/objects/batch",
    query: "",
    headers: {
      ...git,
      Accept: "application/vnd.git-lfs+json",
      "Content-Type": "application/vnd.git-lfs+json; charset=utf-8",
    },
    body: "{}",
  }),
  "a large file": () => ({
    method: "GET",
    path: `/group/project.git/gitlab-lfs/objects/${oid}`,
    query: "",
    headers: { ...git, Range: "bytes=100-" },
  }),
  locks: () => ({
    method: "GET",
    path: "/group/project.git/info/lfs/locks",
    query: "?path=a.bin&limit=100",
    headers: { ...git, Accept: "application/vnd.git-lfs+json" },
  }),
} satisfies Record<string, (jobId: number, token: string) => Sent>);

describe("what goes on to GitLab", () => {
  test.each(requests)("for %s is what it needs and nothing else", async (_what, make) => {
    const { method, path, query, headers, body } = make(machine.job.id, machine.token);
    const lie = `${query === "" ? "?" : "&"}private_token=x&job%5Ftoken=y&_method=DELETE`;
    await send(method, `${path}${query}${lie}`, headers, body);
    const { headers: arrived = {}, url } = seen.findLast((each) => each.url.startsWith(path)) ?? {};
    const names = Object.keys(arrived).filter((name) => !ofTheHop.includes(name));

    expect(url).toBe(path + query);
    expect(names.toSorted()).toEqual(
      Object.keys(headers)
        .map((name) => name.toLowerCase())
        .toSorted(),
    );
    for (const [name, value] of Object.entries(headers)) {
      // The relay's own lines stand before those of the guest, and it says where these begin.
      if (name !== "Content-Range") expect(arrived[name.toLowerCase()]).toBe(value);
    }
  });

  test("is answered without what GitLab tells browsers", async () => {
    const answer = await send("GET", "/group/project.git/info/refs?service=git-upload-pack", git);

    expect([answer["x-kept"], answer["set-cookie"]]).toEqual(["1", undefined]);
  });
});
