import fc from "fast-check";
import { request } from "undici";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { Secret } from "../../src/base/secret.ts";
import { API_PREFIX, apiRoutes } from "../../src/server/api/openapi.ts";
import { roles } from "../../src/server/roles.ts";
import type { Route } from "../../src/server/routes/route.ts";
import { Problem, Status } from "../../src/views/api.ts";
import { aClaim } from "../builders/job.ts";
import { apiTokens, openTestApi } from "../harness/api-server.ts";

const v1 = (path: string) => `${API_PREFIX}${path}`;
const pathOf = ({ path }: Route) => v1(path.replace(":id", "7").replace(":name", "metal-1"));

describe("who may ask", () => {
  test("nobody without a token that is known, and a refusal says how to", async () => {
    await using api = await openTestApi();

    for (const as of [null, "wrong", `${apiTokens.admin}x`]) {
      const { status, headers, text } = await api.ask(v1("/status"), { as });
      expect({ status, asks: headers["www-authenticate"] }).toEqual({ status: 401, asks: "Bearer" });
      expect(Problem.parse(JSON.parse(text)).message).toContain("Authorization: Bearer");
    }
    expect((await api.ask(v1("/openapi.json"), { as: null })).status).toBe(401);
  });

  test.each(
    apiRoutes.filter(({ answers }) => answers !== "text/event-stream").map((each) => [each] as const),
  )("$method $path: its role, and no less", async (route) => {
    await using api = await openTestApi();

    for (const as of roles) {
      const { status } = await api.ask(pathOf(route), { method: route.method, as });
      const isAllowed = roles.indexOf(as) >= roles.indexOf(route.role);
      expect([as, status === 403]).toEqual([as, !isAllowed]);
    }
    const done = api.changes.filter((change) => change.includes(route.path.split("/")[1] ?? ""));
    if (route.method === "GET") expect(done).toEqual([]);
  });

  test("guessing ends after some, and does not keep out whoever has a token", async () => {
    await using api = await openTestApi();

    const statuses = new Set<number>();
    for (let guess = 0; guess < 130; guess++)
      statuses.add((await api.ask(v1("/status"), { as: `guess-${guess}` })).status);

    expect(statuses).toEqual(new Set([401, 429]));
    expect((await api.ask(v1("/status"), { as: "viewer" })).status).toBe(200);
  });

  test("only addresses of the allow-list", async () => {
    await using api = await openTestApi({ settings: { allow: ["192.0.2.0/24"] } });

    expect(await api.ask(v1("/status"))).toMatchObject({ status: 403 });

    await api.server.reload({ ...api.settings, allow: ["127.0.0.0/8"] });
    expect(await api.ask(v1("/status"))).toMatchObject({ status: 200 });
  });

  test("a token that was taken out opens nothing after a reload", async () => {
    await using api = await openTestApi();
    const fresh = { role: "viewer", token: new Secret("another-long-token-of-it") } as const;

    await api.server.reload({ ...api.settings, tokens: new Map([["new", fresh]]) });

    expect((await api.ask(v1("/status"))).status).toBe(401);
    expect((await api.ask(v1("/status"), { as: "another-long-token-of-it" })).status).toBe(200);
  });
});

describe("what is answered", () => {
  test("is what the views say", async () => {
    await using api = await openTestApi();
    await api.kept.store.claim(aClaim({ jobId: 7 }));

    const { status, headers, text } = await api.ask(v1("/status"));

    expect({ status, store: headers["cache-control"] }).toEqual({ status: 200, store: "no-store" });
    expect(Status.parse(JSON.parse(text)).unfinished.map(({ id }) => id)).toEqual([7]);
  });

  test("a change is noted with the name of the token", async () => {
    await using api = await openTestApi();

    await api.ask(v1("/hosts/metal-1/drain"), { method: "POST", as: "operator" });

    expect(api.changes).toEqual(["the-operator: POST /hosts/metal-1/drain"]);
  });

  test("events come on after a break, none lost and none twice", async () => {
    await using api = await openTestApi();
    const headers = { authorization: `Bearer ${apiTokens.viewer}` };
    const heard: number[] = [];
    async function listen(until: number): Promise<void> {
      const last = heard.at(-1);
      const { body } = await request(`${api.address}${v1("/events/stream?after=0")}`, {
        headers: { ...headers, ...(last === undefined ? {} : { "last-event-id": String(last) }) },
      });
      let text = "";
      for await (const part of body.setEncoding("utf8")) {
        text += part;
        for (const [, id] of text.matchAll(/^id: (\d+)\n.*\n\n/gm)) heard.push(Number(id));
        text = text.slice(text.lastIndexOf("\n\n") + 2);
        if ((heard.at(-1) ?? 0) >= until) break;
      }
    }

    for (const jobId of [1, 2, 3]) await api.kept.store.claim(aClaim({ jobId }));
    await listen(3);
    for (const jobId of [4, 5, 6]) await api.kept.store.claim(aClaim({ jobId }));
    await listen(6);

    expect(heard).toEqual([1, 2, 3, 4, 5, 6]);
  });

  test("closing ends those who follow", async () => {
    const api = await openTestApi();
    const headers = { authorization: `Bearer ${apiTokens.viewer}` };
    const { body } = await request(`${api.address}${v1("/events/stream")}`, { headers });
    const ended = body.text().catch(() => "cut");

    await api[Symbol.asyncDispose]();

    expect(await ended).toMatch(/cut|connected/);
  });
});

const word = fc.oneof(
  fc.constantFrom(
    "7",
    "0",
    "-1",
    "1e9",
    "fr-aaaaaaaa",
    "r-abcd",
    "..",
    "%2e%2e%2f",
    "metal-1",
    "99999999999999999999",
  ),
  fc.string({ maxLength: 40 }),
);
const query = fc.dictionary(
  fc.constantFrom(
    "live",
    "limit",
    "after",
    "last",
    "job",
    "machine",
    "follow",
    "bytes",
    "since",
    "states",
    "gone",
    "x",
  ),
  word,
  { maxKeys: 4 },
);

/** Any request at all is answered, by what the description says. */
test("whatever is asked gets an answer of a form that is described, and none is a failure of ours", async () => {
  await using api = await openTestApi();
  await api.kept.store.claim(aClaim({ jobId: 7 }));
  const routes = apiRoutes.filter(({ answers }) => answers !== "text/event-stream");

  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...routes),
      word,
      query,
      fc.option(fc.oneof(fc.json(), fc.string())),
      async (route, part, asked, body) => {
        const path = route.path.replaceAll(/:\w+/g, encodeURIComponent(part));
        const { follow: _endless, ...parameters } = asked;
        const answer = await api.ask(`${v1(path)}?${new URLSearchParams(parameters)}`, {
          method: route.method,
          ...(body === null || route.method === "GET" ? {} : { body }),
        });
        expect(answer.status, answer.text).toBeLessThan(500);
        if (answer.status !== 200) Problem.parse(JSON.parse(answer.text));
        else if (route.answers instanceof z.ZodType) route.answers.parse(JSON.parse(answer.text));
      },
    ),
    { numRuns: 400 },
  );
}, 120_000);
