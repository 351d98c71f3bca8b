import { execFile } from "node:child_process";
import { mkdir, readFile } from "node:fs/promises";
import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from "node:http";
import { join } from "node:path";
import { Readable } from "node:stream";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  type BenchMachine,
  createRelayBench,
  type RelayBench,
  type RelayBenchOptions,
} from "./relay-bench.ts";

const MIB = 1024 ** 2;
const run = promisify(execFile);

let bench: RelayBench;
let closing: (() => Promise<unknown>)[];

beforeEach(() => {
  closing = [];
});

afterEach(async () => {
  await bench.close();
  for (const close of closing) await close();
});

async function open(options: RelayBenchOptions = {}): Promise<RelayBench> {
  bench = await createRelayBench(options);
  return bench;
}

/** An HTTP server on loopback for this test. */
async function serve(handle: (request: IncomingMessage, response: ServerResponse) => void): Promise<string> {
  const server = createServer(handle);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closing.push(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  const address = server.address();
  return `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`;
}

/** A GitLab that takes any trace, and what `handle` makes of the rest. */
function serveGitLab(handle: (request: IncomingMessage, response: ServerResponse) => void): Promise<string> {
  return serve((request, response) => {
    if (request.method !== "PATCH") return handle(request, response);
    request.resume();
    response.writeHead(202, { "Job-Status": "running" }).end();
  });
}

async function machineBehind(options: RelayBenchOptions): Promise<BenchMachine> {
  await open(options);
  const machine = await bench.machine();
  await machine.handOver();
  return machine;
}

function* chunks(count: number) {
  const chunk = Buffer.alloc(MIB / 4, "x");
  for (let i = 0; i < count * 4; i++) yield chunk;
}

/** Sends `mib` MiB in chunks and gives the answer's status; watches the memory of this process meanwhile. */
function upload(machine: BenchMachine, mib: number): Promise<{ status: number; grownBytes: number }> {
  const before = process.memoryUsage().rss;
  let highest = before;
  const timer = setInterval(() => {
    highest = Math.max(highest, process.memoryUsage().rss);
  }, 50);
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      {
        socketPath: machine.socketPath,
        method: "POST",
        path: `/api/v4/jobs/${machine.job.id}/artifacts?artifact_type=archive`,
        headers: { "JOB-TOKEN": machine.token, Host: "10.0.2.100" },
      },
      (response) => {
        clearInterval(timer);
        response.resume();
        resolve({ status: response.statusCode ?? 0, grownBytes: highest - before });
      },
    );
    request.on("error", reject);
    Readable.from(chunks(mib)).pipe(request);
  });
}

describe("artifacts", () => {
  test("of one job reach the next, with the token that its payload names", async () => {
    await open();
    const [first, second] = [await bench.machine(), await bench.machine()];
    await first.handOver();
    await second.handOver();
    const content = Buffer.alloc(300_000, "zip");
    const sent = await first.guest.upload(first.job.id, first.token, "out.zip", content);
    const own = await first.guest.download(first.job.id, first.token);
    const others = await second.guest.download(first.job.id, second.token);

    expect([sent.status, own.status, own.text.length]).toEqual([201, 200, content.length]);
    expect(own.headers["content-disposition"]).toContain("out.zip");
    expect(others.status).toBe(403);
  });

  test("are fetched from the object storage that GitLab names, by the relay, without GitLab's tokens", async () => {
    await open({
      gitlab: { behaviour: { directDownload: true } },
      relay: { guard: () => undefined },
    });
    const machine = await bench.machine();
    await machine.handOver();
    await machine.guest.upload(machine.job.id, machine.token, "out.zip", "content");
    const answer = await machine.guest.download(machine.job.id, machine.token, "?direct_download=true");

    expect([answer.status, answer.text, answer.headers["location"]]).toEqual([200, "content", undefined]);
    expect(bench.gitlab.violations).toEqual([]);
  });

  test("are not fetched from a private address, unless the operator has listed it", async () => {
    const address = await serve((_request, response) => response.end("from storage"));
    const storage = address.replace("127.0.0.1", "localhost");
    const gitlabUrl = await serveGitLab((_request, response) => {
      response.writeHead(302, { Location: `${storage}/bucket/file?signature=x` }).end();
    });
    const machine = await machineBehind({ gitlabUrl, relay: { resolve: async () => ["127.0.0.1"] } });
    const refused = await machine.guest.download(machine.job.id, machine.token);
    const events = await bench.store.events({ machineId: machine.id });
    await bench.close();
    const trusting = await machineBehind({
      gitlabUrl,
      settings: { objectStorage: [storage.replace("http://", "")] },
    });
    const fetched = await trusting.guest.download(trusting.job.id, trusting.token);

    expect([refused.status, refused.text]).toEqual([502, expect.stringContaining("relay.objectStorage")]);
    expect(events.map(({ kind }) => kind)).toContain("egress:refused");
    expect([fetched.status, fetched.text]).toEqual([200, "from storage"]);
  });

  test("are not chased through redirects for ever", async () => {
    const gitlabUrl = await serveGitLab((request, response) => {
      response.writeHead(302, { Location: request.url }).end();
    });
    const machine = await machineBehind({ gitlabUrl });
    const answer = await machine.guest.download(machine.job.id, machine.token);

    expect([answer.status, answer.text]).toEqual([502, expect.stringContaining("too many redirects")]);
  });

  test("that GitLab wants elsewhere are sent there by the runner's own second try", async () => {
    const received: string[] = [];
    const primary = await serve((request, response) => {
      request.on("data", (data) => received.push(`${request.url} ${data}`));
      request.on("end", () => response.writeHead(201).end());
    });
    const gitlabUrl = await serveGitLab((request, response) => {
      request.resume();
      response.writeHead(307, { Location: `${primary}/api/v4/elsewhere` }).end();
    });
    const machine = await machineBehind({ gitlabUrl, relay: { guard: () => undefined } });
    const path = `/api/v4/jobs/${machine.job.id}/artifacts`;
    const post = () =>
      machine.guest.call("POST", path, { headers: { "JOB-TOKEN": machine.token }, body: "body" });
    const redirected = await post();
    const sent = await post();

    expect([redirected.status, redirected.headers["location"]]).toEqual([307, `${machine.url}${path}`]);
    expect(sent.status).toBe(201);
    expect(received).toEqual([`${path} body`]);
  });

  test("that are refused before they are sent whole are answered all the same", async () => {
    const gitlabUrl = await serveGitLab((_request, response) => {
      response.writeHead(413, { "Content-Type": "application/json" }).end("{}");
    });
    const machine = await machineBehind({ gitlabUrl });

    expect((await upload(machine, 64)).status).toBe(413);
  });

  test("of 1 GiB pass without being held in memory", { timeout: 60_000 }, async () => {
    let receivedBytes = 0;
    const gitlabUrl = await serveGitLab((request, response) => {
      request.on("data", (data: Buffer) => {
        receivedBytes += data.length;
      });
      request.on("end", () => response.writeHead(201).end());
    });
    const machine = await machineBehind({ gitlabUrl });
    await upload(machine, 64);
    receivedBytes = 0;
    const { status, grownBytes } = await upload(machine, 1_024);

    expect([status, receivedBytes]).toEqual([201, 1_024 * MIB]);
    expect(grownBytes).toBeLessThan(200 * MIB);
  });

  test("wait for a slow GitLab instead of piling up", async () => {
    let seen: IncomingMessage | undefined;
    const gitlabUrl = await serveGitLab((request) => {
      request.pause();
      seen = request;
    });
    const machine = await machineBehind({ gitlabUrl });
    const request = httpRequest({
      socketPath: machine.socketPath,
      method: "POST",
      path: `/api/v4/jobs/${machine.job.id}/artifacts`,
      headers: { "JOB-TOKEN": machine.token, Host: "10.0.2.100" },
    });
    request.on("error", () => {});
    let sentBytes = 0;
    const source = Readable.from(chunks(256));
    source.on("data", (chunk: Buffer) => {
      sentBytes += chunk.length;
    });
    source.pipe(request);
    await expect.poll(() => seen !== undefined).toBe(true);
    let before = -1;
    await expect
      .poll(() => {
        const stands = before === sentBytes;
        before = sentBytes;
        return stands;
      })
      .toBe(true);
    request.destroy();

    expect(sentBytes).toBeLessThan(64 * MIB);
    seen?.resume();
    await expect.poll(() => [seen?.destroyed, seen?.complete]).toEqual([true, false]);
  });

  test("cut by GitLab in the middle do not look whole", async () => {
    const gitlabUrl = await serveGitLab((_request, response) => {
      response.writeHead(200, { "Content-Type": "application/octet-stream" });
      response.write("half", () => response.destroy());
    });
    const machine = await machineBehind({ gitlabUrl });

    await expect(machine.guest.download(machine.job.id, machine.token)).rejects.toThrow();
  });
});

describe("what goes on to GitLab", () => {
  test("keeps GitLab's path and host, and answers lose the headers of the hop", async () => {
    const seen: IncomingMessage[] = [];
    const gitlabUrl = await serveGitLab((request, response) => {
      seen.push(request);
      response.writeHead(200, { Connection: "close, X-Hop", "X-Hop": "1", "X-Kept": "1" }).end("ok");
    });
    const machine = await machineBehind({ gitlabUrl: `${gitlabUrl}/gitlab` });
    const path = `/api/v4/jobs/${machine.job.id}/artifacts?direct_download=false`;
    const answer = await machine.guest.call("GET", path, { headers: { "JOB-TOKEN": machine.token } });

    expect(seen[0]?.url).toBe(`/gitlab${path}`);
    expect(seen[0]?.headers).toMatchObject({ host: new URL(gitlabUrl).host });
    expect([answer.headers["x-kept"], answer.headers["x-hop"]]).toEqual(["1", undefined]);
  });
});

describe("a report", () => {
  test("keeps its query, and lets no redirect lead the runner away", async () => {
    const asked: (string | undefined)[] = [];
    const gitlabUrl = await serve((request, response) => {
      asked.push(request.url);
      request.resume();
      const redirect = { Location: "https://elsewhere.example.com/" };
      if (request.method === "PUT") response.writeHead(301, redirect).end();
      else response.writeHead(202, { "Job-Status": "running" }).end();
    });
    const machine = await machineBehind({ gitlabUrl });
    const patch = await machine.guest.call(
      "PATCH",
      `/api/v4/jobs/${machine.job.id}/trace?debug_trace=false`,
      {
        headers: { "JOB-TOKEN": machine.token, "Content-Range": "0-0" },
        body: "x",
      },
    );
    const put = await machine.guest.update(machine.job.id, machine.token, "running");

    expect(asked).toContain(`/api/v4/jobs/${machine.job.id}/trace?debug_trace=false`);
    expect([patch.status, patch.headers["range"]]).toEqual([202, "0-1"]);
    expect([put.status, put.headers["location"]]).toEqual([502, undefined]);
  });
});

describe("git", () => {
  test("clones and refuses as GitLab does, by the guest's own credentials", async () => {
    await open();
    const project = await bench.gitlab.projects.add({
      path: "group/with-git",
      repository: { files: { "README.md": "hello from git\n" } },
    });
    const machine = await bench.machine({}, undefined, project);
    const payload = (await machine.handOver()) as { git_info: { repo_url: string } };
    const clone = join(bench.directory, "clone");
    await mkdir(clone);
    const env = { PATH: process.env["PATH"], HOME: bench.directory, GIT_TERMINAL_PROMPT: "0" };
    await run("git", ["clone", "--quiet", payload.git_info.repo_url, clone], { env });
    const wrong = payload.git_info.repo_url.replace(machine.token, "glcbt-wrong");
    const refused = run("git", ["clone", "--quiet", wrong, join(bench.directory, "wrong")], { env });

    expect(await readFile(join(clone, "README.md"), "utf8")).toBe("hello from git\n");
    await expect(refused).rejects.toThrow(/Authentication failed/);
  });

  test("is served only to a machine that has its job", async () => {
    await open();
    const machine = await bench.machine();
    const answer = await machine.guest.call("GET", "/group/project.git/info/refs?service=git-upload-pack");

    expect(answer.status).toBe(404);
  });

  test("of a renamed project stays behind the relay", async () => {
    let base = "";
    const gitlabUrl = await serveGitLab((request, response) => {
      const to = `${base}/gitlab/group/renamed.git/info/refs?service=git-upload-pack`;
      response
        .writeHead(301, { Location: request.url?.includes("elsewhere") ? "https://example.com/" : to })
        .end();
    });
    base = gitlabUrl;
    const machine = await machineBehind({ gitlabUrl: `${gitlabUrl}/gitlab` });
    const answer = await machine.guest.call("GET", "/group/old.git/info/refs?service=git-upload-pack");
    const away = await machine.guest.call("GET", "/group/elsewhere.git/info/refs");

    expect(answer.headers["location"]).toBe(
      `${machine.url}/group/renamed.git/info/refs?service=git-upload-pack`,
    );
    expect(away.headers["location"]).toBe("https://example.com/");
  });

  test("gets its large files by way of the relay", async () => {
    const oid = "a".repeat(64);
    let storage = "";
    const gitlabUrl = await serveGitLab((request, response) => {
      if (request.method === "GET") return void response.writeHead(302, { Location: storage }).end();
      const href = `https://gitlab.example.com/group/project.git/gitlab-lfs/objects/${oid}`;
      const body = JSON.stringify({
        objects: [{ oid, actions: { download: { href, header: { A: "b" } } } }],
      });
      request.resume();
      response.writeHead(200, { "Content-Type": "application/vnd.git-lfs+json" }).end(body);
    });
    storage = await serve((request, response) => {
      response.end(request.headers.authorization === undefined ? "large file" : "leaked");
    });
    const machine = await machineBehind({ gitlabUrl, relay: { guard: () => undefined } });
    const batch = await machine.guest.call("POST", "/group/project.git/info/lfs/objects/batch", {
      body: "{}",
    });
    const { href } = (batch.json() as { objects: { actions: { download: { href: string } } }[] }).objects[0]!
      .actions.download;
    const file = await machine.guest.call("GET", new URL(href).pathname, {
      headers: { Authorization: "Basic eDp5" },
    });

    expect(href).toBe(`${machine.url}/group/project.git/gitlab-lfs/objects/${oid}`);
    expect([file.status, file.text]).toEqual([200, "large file"]);
  });
});
