import { Readable } from "node:stream";
import { afterEach, describe, expect, test } from "vitest";
import { answer, type Handler, startHttpServer } from "../../test/servers/http-server.ts";
import { createGitLabHttp, endToEndHeaders } from "./http.ts";

const open: AsyncDisposable[] = [];
afterEach(async () => {
  for (const each of open.splice(0).toReversed()) await each[Symbol.asyncDispose]();
});

async function gitLab(handle: Handler, path = "") {
  const server = await startHttpServer(handle);
  const http = createGitLabHttp({ url: server.url + path });
  open.push(server, { [Symbol.asyncDispose]: () => http.dispatcher.destroy() });
  return { server, http };
}

test.each([
  ["https://gitlab.example.com", "https://gitlab.example.com", ""],
  ["https://gitlab.example.com/", "https://gitlab.example.com", ""],
  ["http://gitlab.example.com:8080/git/lab//", "http://gitlab.example.com:8080", "/git/lab"],
])("%s has origin and base path", (url, origin, basePath) => {
  expect(createGitLabHttp({ url })).toMatchObject({ origin, basePath });
});

test.each(["", "not a certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])(
  "a certificate file with %j in it is refused at once",
  (ca) => {
    expect(() => createGitLabHttp({ url: "https://gitlab.example.com", ca })).toThrow(
      expect.objectContaining({ code: "gitlab_certificate", hint: expect.stringContaining("PEM") }),
    );
  },
);

test("endToEndHeaders leaves out what belongs to one connection", () => {
  const headers = endToEndHeaders({
    connection: "keep-alive, X-Hop",
    "x-hop": "1",
    "transfer-encoding": "chunked",
    "keep-alive": "timeout=5",
    "job-token": "t",
    "content-length": "3",
  });

  expect(headers).toEqual({ "job-token": "t", "content-length": "3" });
});

describe("forward", () => {
  test("streams a body of unknown length through, with the headers of the message", async () => {
    const { http, server } = await gitLab(
      (request, response) =>
        answer(response, 201, request.body.toUpperCase(), { "Job-Status": "running", "X-Hop": "1" }),
      "/gitlab",
    );

    const said = await http.forward({
      method: "POST",
      path: "/api/v4/jobs/1/artifacts?artifact_format=zip",
      headers: {
        host: "10.0.2.100",
        "job-token": "t",
        "transfer-encoding": "chunked",
        connection: "close",
        expect: "100-continue",
      },
      body: Readable.from(["abc", "def"]),
    });

    expect(said.statusCode).toBe(201);
    expect(said.headers["job-status"]).toBe("running");
    expect(said.headers).not.toHaveProperty("connection");
    expect(await said.body.text()).toBe("ABCDEF");
    expect(server.seen[0]).toMatchObject({
      path: "/gitlab/api/v4/jobs/1/artifacts?artifact_format=zip",
      headers: { host: `127.0.0.1:${server.port}`, "job-token": "t" },
    });
  });

  test("hands redirects to the caller", async () => {
    const { http, server } = await gitLab((_request, response) =>
      answer(response, 307, undefined, { Location: "http://127.0.0.1:1/elsewhere" }),
    );

    const said = await http.forward({ method: "GET", path: "/api/v4/jobs/1/artifacts" });
    await said.body.dump();

    expect(said.statusCode).toBe(307);
    expect(said.headers).toMatchObject({ location: "http://127.0.0.1:1/elsewhere" });
    expect(server.seen).toHaveLength(1);
  });

  test("ends the request to GitLab when it is aborted", async () => {
    const { promise: ended, resolve: end } = Promise.withResolvers<void>();
    const controller = new AbortController();
    const { http } = await gitLab((_request, response) => {
      response.on("close", end);
      controller.abort();
    });

    const forwarding = http.forward({ method: "GET", path: "/", signal: controller.signal });

    await expect(forwarding).rejects.toThrow();
    await ended;
  });
});

test("an open long poll does not hold up other requests", async () => {
  const { http } = await gitLab((request, response) => {
    if (request.path !== "/hold") answer(response, 200, { ok: true });
  });
  http.request({ method: "GET", path: "/hold" }).catch(() => {});

  const said = await http.request({ method: "GET", path: "/quick" });

  expect(await said.body.json()).toEqual({ ok: true });
});

test("no answer in the given time is an error", async () => {
  const { http } = await gitLab(() => {});

  const silent = http.request({ method: "GET", path: "/", headersTimeoutMs: 50 });

  await expect(silent).rejects.toMatchObject({ code: "UND_ERR_HEADERS_TIMEOUT" });
});
