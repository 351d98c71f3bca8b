import type { ServerResponse } from "node:http";
import { expect, test } from "vitest";
import { apiToken, aRest, aRestAnswering } from "../../test/builders/rest.ts";
import { answer, startHttpServer } from "../../test/servers/http-server.ts";
import { describeError } from "../base/errors.ts";
import { createManualClock } from "../base/manual-clock.ts";
import { Secret } from "../base/secret.ts";
import type { GitLabError } from "./errors.ts";
import type { GitLabRest } from "./rest-api.ts";

const job = { id: 7, name: "build", status: "pending", created_at: "2026-05-01T10:00:00.000Z", ref: "main" };

/** The error of a call that has to fail, with a look that the token is not in it. */
async function failureOf(calling: Promise<unknown>): Promise<GitLabError> {
  const error = await calling.then(
    () => expect.fail("it succeeded"),
    (reason: unknown) => reason as GitLabError,
  );
  expect(`${describeError(error)} ${error.hint}`).not.toContain(apiToken.reveal());
  return error;
}

const anyCall = (rest: GitLabRest) => rest.job(3, 7);

test("a request carries the token, who asks, and goes below GitLab's path", async () => {
  await using gitlab = await aRest((_request, response) => answer(response, 200, job), { under: "/gitlab/" });

  await anyCall(gitlab.rest);

  expect(gitlab.server.seen).toHaveLength(1);
  expect(gitlab.server.seen[0]).toMatchObject({
    method: "GET",
    path: "/gitlab/api/v4/projects/3/jobs/7",
    headers: {
      "private-token": apiToken.reveal(),
      accept: "application/json",
      "user-agent": "firerunner/1.2.3",
    },
  });
});

test("a token that was replaced is used from the next request on", async () => {
  let token = new Secret("glpat-first");
  await using gitlab = await aRest((_request, response) => answer(response, 200, job), {
    token: () => token,
  });

  await anyCall(gitlab.rest);
  token = new Secret("glpat-second");
  await anyCall(gitlab.rest);

  expect(gitlab.server.seen.map(({ headers }) => headers["private-token"])).toEqual([
    "glpat-first",
    "glpat-second",
  ]);
});

test.each(["", "glpat-one\nglpat-two", "“glpat-quoted”"])(
  "a token that cannot be one (%j) is not sent",
  async (text) => {
    await using gitlab = await aRest(() => {}, { token: () => new Secret(text) });

    const error = await failureOf(anyCall(gitlab.rest));

    expect(error).toMatchObject({ code: "gitlab_api_token", retryable: false });
    expect(gitlab.server.seen).toHaveLength(0);
  },
);

test("the budget is what GitLab said last", async () => {
  const headers = {
    "RateLimit-Limit": "2000",
    "RateLimit-Remaining": "1999",
    "RateLimit-Reset": "1790000000",
  };
  let isCounting = true;
  await using gitlab = await aRest((_request, response) => {
    answer(response, 200, job, isCounting ? headers : {});
  });
  expect(gitlab.rest.budget).toBeUndefined();

  await anyCall(gitlab.rest);
  isCounting = false;
  await anyCall(gitlab.rest);

  expect(gitlab.rest.budget).toEqual({ limit: 2_000, remaining: 1_999, resetsAt: 1_790_000_000_000 });
});

test.each([
  ["an unknown token", 401, { message: "401 Unauthorized" }, "gitlab_api_token", "create an access token"],
  [
    "an expired token",
    401,
    { error: "invalid_token", error_description: "Token is expired." },
    "gitlab_api_token",
    "Token is expired.",
  ],
  [
    "a scope that is missing",
    403,
    { error: "insufficient_scope", error_description: "Requires higher privileges.", scope: "api read_api" },
    "gitlab_forbidden",
    "lacks the scope read_api",
  ],
  ["a role that is missing", 403, { message: "403 Forbidden" }, "gitlab_forbidden", "role Reporter"],
  [
    "a job that is gone",
    404,
    { message: "404 Not Found" },
    "gitlab_not_found",
    "make the token's user a member",
  ],
  [
    "a refusal",
    400,
    { message: { tag_list: ["is odd", "is bad"] } },
    "gitlab_refused",
    "tag_list is odd, is bad",
  ],
  ["another refusal", 422, { error: ["first", "second"] }, "gitlab_refused", "first, second"],
  ["a method that is not allowed", 405, { error: "405 Not Allowed" }, "gitlab_refused", "405 Not Allowed"],
  ["a web page", 200, "<html>Welcome</html>", "gitlab_wrong_url", "gitlab.url"],
  ["a page that asks to log in", 401, "<html>Log in</html>", "gitlab_wrong_url", "not GitLab's API"],
  ["a gate's page", 403, "<html>Blocked</html>", "gitlab_wrong_url", "not GitLab's API"],
  ["a page that does not exist", 404, "<html>404</html>", "gitlab_wrong_url", "gitlab.url"],
  ["another API", 200, { items: [] }, "gitlab_wrong_url", "not what GitLab's API gives (id)"],
  ["an empty answer", 204, undefined, "gitlab_wrong_url", "not what GitLab's API gives"],
])("%s (%i) is told, and asked for once", async (_what, status, body, code, words) => {
  await using gitlab = await aRestAnswering(status, body);

  const error = await failureOf(anyCall(gitlab.rest));

  expect(error).toMatchObject({ code, retryable: false, waitMs: 0 });
  expect(`${error.message} → ${error.hint}`).toContain(words);
  expect(error.message).toContain("reading job 7 of project 3");
  expect(gitlab.server.seen).toHaveLength(1);
});

test.each([
  [500, { message: "500 Internal Server Error" }],
  [502, "<html>Bad Gateway</html>"],
  [503, { message: "GitLab is in maintenance" }],
  [504, undefined],
  [408, undefined],
  [409, { message: "409 Conflict" }],
])("%i passes by itself, and is asked for once", async (status, body) => {
  await using gitlab = await aRestAnswering(status, body);

  const error = await failureOf(anyCall(gitlab.rest));

  expect(error).toMatchObject({ code: "gitlab_unavailable", retryable: true, waitMs: 0 });
  expect(gitlab.server.seen).toHaveLength(1);
});

test.each([
  ["Retry-After in seconds", 429, { "Retry-After": "30" }, "gitlab_rate_limited", 30_000],
  ["RateLimit-Reset", 429, { "RateLimit-Reset": "1040" }, "gitlab_rate_limited", 40_000],
  [
    "RateLimit-ResetTime",
    429,
    { "RateLimit-ResetTime": "Thu, 01 Jan 1970 00:17:00 GMT" },
    "gitlab_rate_limited",
    20_000,
  ],
  ["Retry-After of a GitLab in maintenance", 503, { "Retry-After": "7" }, "gitlab_unavailable", 7_000],
  ["no time at all", 429, {}, "gitlab_rate_limited", 0],
])("a limit's wait is taken from %s", async (_what, status, headers, code, waitMs) => {
  const clock = createManualClock(1_000_000);
  await using gitlab = await aRest(
    (_request, response) =>
      answer(response, status, "Retry later\n", { ...headers, "content-type": "text/plain" }),
    { clock },
  );

  const error = await failureOf(anyCall(gitlab.rest));

  expect(error).toMatchObject({ code, retryable: true, waitMs });
  expect(gitlab.server.seen).toHaveLength(1);
});

test("a redirect is not followed with the token", async () => {
  await using elsewhere = await startHttpServer((_request, response) => answer(response, 200, job));
  await using gitlab = await aRestAnswering(302, undefined, {
    Location: `${elsewhere.url}/api/v4/projects/3/jobs/7?token=secret`,
  });

  const error = await failureOf(anyCall(gitlab.rest));

  expect(error).toMatchObject({ code: "gitlab_wrong_url", retryable: false });
  expect(error.message).toContain(elsewhere.url);
  expect(error.message).not.toContain("secret");
  expect(elsewhere.seen).toHaveLength(0);
});

test("a project that was renamed is told as that", async () => {
  await using gitlab = await aRest((_request, response) =>
    answer(response, 301, { message: "moved" }, { Location: `${gitlab.server.url}/api/v4/projects/81` }),
  );

  const error = await failureOf(gitlab.rest.findProject("group/old"));

  expect(error).toMatchObject({
    code: "gitlab_not_found",
    message: expect.stringContaining("renamed or moved"),
  });
});

test("a proxy that wants https for the same path is a wrong address, not a renamed project", async () => {
  await using gitlab = await aRestAnswering(301, undefined, {
    Location: "https://gitlab.example.com/api/v4/projects/81",
  });

  expect((await failureOf(gitlab.rest.findProject("81"))).code).toBe("gitlab_wrong_url");
});

test.each<[string, (response: ServerResponse) => void]>([
  ["no answer", () => {}],
  ["an answer without an end", (response) => void response.writeHead(200).write("[")],
  ["an answer that drips", drip],
])("%s is given up after its time", async (_what, handle) => {
  await using gitlab = await aRest((_request, response) => handle(response), { answerTimeoutMs: 100 });

  const error = await failureOf(anyCall(gitlab.rest));

  expect(error).toMatchObject({ code: "gitlab_unreachable", retryable: true });
  expect(error.message).toContain("no whole answer within 0.1 s");
});

function drip(response: ServerResponse): void {
  response.writeHead(200);
  const timer = setInterval(() => response.write(" "), 10);
  response.on("close", () => clearInterval(timer));
}

test("a body that breaks off is told, and passes by itself", async () => {
  await using gitlab = await aRest((_request, response) => {
    response.writeHead(200, { "content-type": "application/json", "content-length": "5000" });
    response.write(JSON.stringify(job));
    setTimeout(() => response.destroy(), 10);
  });

  const error = await failureOf(anyCall(gitlab.rest));

  expect(error).toMatchObject({ code: "gitlab_unreachable", retryable: true });
});

test("a refusal whose body breaks off is still told by its status", async () => {
  await using gitlab = await aRest((_request, response) => {
    response.writeHead(503, { "content-length": "5000" });
    response.write("<html>");
    setTimeout(() => response.destroy(), 10);
  });

  expect((await failureOf(anyCall(gitlab.rest))).code).toBe("gitlab_unavailable");
});

test("a body that is far too long is not read to its end", async () => {
  let writtenBytes = 0;
  await using gitlab = await aRest(async (_request, response) => {
    response.writeHead(200, { "content-type": "application/json" });
    const chunk = Buffer.alloc(1024 * 1024, " ");
    const closed = new Promise((resolve) => response.once("close", resolve));
    while (!response.destroyed && writtenBytes < 200 * chunk.length) {
      writtenBytes += chunk.length;
      if (!response.write(chunk)) await Promise.race([drained(response), closed]);
    }
    response.end();
  });

  const error = await failureOf(anyCall(gitlab.rest));

  expect(error).toMatchObject({ code: "gitlab_wrong_url", retryable: false });
  expect(error.message).toContain("longer than any of GitLab's API");
  expect(writtenBytes).toBeLessThan(100 * 1024 * 1024);
});

const drained = (response: ServerResponse) => new Promise((resolve) => response.once("drain", resolve));

test("a refused connection is told", async () => {
  await using gitlab = await aRestAnswering(200, job);
  await gitlab.server[Symbol.asyncDispose]();

  const error = await failureOf(anyCall(gitlab.rest));

  expect(error).toMatchObject({ code: "gitlab_unreachable", retryable: true });
});

test("a caller that gives up gets its own reason", async () => {
  await using gitlab = await aRest(() => new Promise(() => {}));
  const reason = new Error("enough");
  const controller = new AbortController();

  const asking = gitlab.rest.job(3, 7, controller.signal);
  setTimeout(() => controller.abort(reason), 20);

  await expect(asking).rejects.toBe(reason);
});

test("what GitLab says of a token is shown without the token", async () => {
  await using gitlab = await aRestAnswering(400, {
    message: `token ${apiToken.reveal()} and glrt-t3_abc.01.xyz and whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw=`,
  });

  const error = await failureOf(anyCall(gitlab.rest));

  expect(error.message).toContain("token [secret] and [secret] and [secret]");
});
