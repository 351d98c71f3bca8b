import { expect, test } from "vitest";
import { apiToken, aRest } from "../../test/builders/rest.ts";
import { answer, startHttpServer } from "../../test/servers/http-server.ts";
import type { GitLabError } from "./errors.ts";

const runner = (id: number) => ({ id, description: `runner ${id}`, paused: false, online: true });
const scope = { kind: "group", id: 5, path: "acme" } as const;

async function failureOf(calling: Promise<unknown>): Promise<GitLabError> {
  return await calling.then(
    () => expect.fail("it succeeded"),
    (reason: unknown) => reason as GitLabError,
  );
}

function pageOf(path: string): number {
  return Number(new URL(path, "http://gitlab.invalid").searchParams.get("page") ?? "1");
}

test.each(["", "/gitlab"])("follows the next page to the last one (GitLab under %j)", async (under) => {
  await using gitlab = await aRest(
    (request, response) => {
      const page = pageOf(request.path);
      const at = (number: number) =>
        `<${gitlab.server.url}${under}/api/v4/groups/5/runners?type=group_type&per_page=100&page=${number}>`;
      const next = page < 3 ? `${at(page + 1)}; rel="next", ` : "";
      answer(response, 200, [runner(page)], { Link: `${at(1)}; rel="first", ${next}${at(3)}; rel="last"` });
    },
    { under },
  );

  const runners = await gitlab.rest.runnersOf(scope);

  expect(runners.map(({ id }) => id)).toEqual([1, 2, 3]);
  expect(gitlab.server.seen.map(({ path }) => pageOf(path))).toEqual([1, 2, 3]);
  expect(gitlab.server.seen[0]?.path).toBe(`${under}/api/v4/groups/5/runners?type=group_type&per_page=100`);
  expect(gitlab.server.seen.every(({ headers }) => headers["private-token"] === apiToken.reveal())).toBe(
    true,
  );
});

test.each([
  ["none", undefined, 1],
  ["one without a next page", '</api/v4/x>; rel="prev"', 1],
  ["one that is no link", "nonsense; rel=next", 1],
  ["a relative one", "</api/v4/groups/5/runners?page=2>; rel=next", 2],
  ["one with further parameters", '</api/v4/groups/5/runners?page=2>; title="x"; rel="last next"', 2],
])("a Link header (%s) gives the right number of pages", async (_what, link, pages) => {
  await using gitlab = await aRest((request, response) => {
    const isFirst = pageOf(request.path) === 1;
    answer(response, 200, [runner(1)], link !== undefined && isFirst ? { Link: link } : {});
  });

  expect(await gitlab.rest.runnersOf(scope)).toHaveLength(pages);
});

test("does not take the token to another host, port, scheme or program", async () => {
  await using other = await startHttpServer((_request, response) => answer(response, 200, [runner(2)]));
  let next = "";
  await using gitlab = await aRest(
    (_request, response) => answer(response, 200, [runner(1)], { Link: `<${next}>; rel="next"` }),
    { under: "/gitlab" },
  );
  const { port } = gitlab.server;
  const path = "/gitlab/api/v4/groups/5/runners?page=2";

  for (const elsewhere of [
    `${other.url}${path}`,
    `http://localhost:${port}${path}`,
    `https://127.0.0.1:${port}${path}`,
    `http://127.0.0.1:${port}@evil.example${path}`,
    `//evil.example${path}`,
    `${gitlab.server.url}/other/api/v4/groups/5/runners?page=2`,
    `${gitlab.server.url}/gitlab/api/v4/../../other?page=2`,
    `${gitlab.server.url}/gitlab/api/v4-evil/x`,
    "http://[",
  ]) {
    next = elsewhere;
    const error = await failureOf(gitlab.rest.runnersOf(scope));

    expect(error, elsewhere).toMatchObject({ code: "gitlab_wrong_url", retryable: false });
    expect(error.message, elsewhere).toContain("which is elsewhere");
    expect(error.hint).toContain("external_url");
  }
  expect(other.seen).toHaveLength(0);
  expect(gitlab.server.seen).toHaveLength(9);
});

test("a list that never ends is given up", async () => {
  await using gitlab = await aRest((request, response) => {
    const next = `${gitlab.server.url}/api/v4/groups/5/runners?page=${pageOf(request.path) + 1}`;
    answer(response, 200, [runner(1)], { Link: `<${next}>; rel="next"` });
  });

  const error = await failureOf(gitlab.rest.runnersOf(scope));

  expect(error).toMatchObject({
    code: "gitlab_wrong_url",
    message: expect.stringContaining("goes on after 200"),
  });
  expect(gitlab.server.seen).toHaveLength(200);
});

test("a list that leads back to itself is given up at once", async () => {
  await using gitlab = await aRest((_request, response) => {
    const next = `${gitlab.server.url}/api/v4/groups/5/runners?page=2`;
    answer(response, 200, [runner(1)], { Link: `<${next}>; rel="next"` });
  });

  const error = await failureOf(gitlab.rest.runnersOf(scope));

  expect(error.message).toContain("leads back");
  expect(gitlab.server.seen).toHaveLength(2);
});

test("an empty page ends a list, wherever it points", async () => {
  await using gitlab = await aRest((_request, response) =>
    answer(response, 200, [], { Link: `<${gitlab.server.url}/api/v4/groups/5/runners?page=2>; rel="next"` }),
  );

  expect(await gitlab.rest.runnersOf(scope)).toEqual([]);
  expect(gitlab.server.seen).toHaveLength(1);
});

test("a failure in the middle of a list is the list's", async () => {
  await using gitlab = await aRest((request, response) => {
    if (pageOf(request.path) === 2) return answer(response, 429, {}, { "Retry-After": "9" });
    const next = `${gitlab.server.url}/api/v4/groups/5/runners?page=2`;
    return answer(response, 200, [runner(1)], { Link: `<${next}>; rel="next"` });
  });

  expect(await failureOf(gitlab.rest.runnersOf(scope))).toMatchObject({
    code: "gitlab_rate_limited",
    waitMs: 9_000,
  });
});
