import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createManualClock, type ManualClock } from "../../../../src/base/manual-clock.ts";
import type { Project } from "../model.ts";
import { createStandInGitLab, type StandInGitLab } from "../stand-in.ts";
import { createRestDouble, type RestDouble } from "../test-clients.ts";
import type { AccessToken } from "../tokens.ts";

type Given = Parameters<StandInGitLab["tokens"]["add"]>[0];

let clock: ManualClock;
let gitlab: StandInGitLab;
let project: Project;
let doubles: RestDouble[];

beforeEach(async () => {
  clock = createManualClock();
  gitlab = createStandInGitLab({ clock, behaviour: { longPollMs: 0 } });
  await gitlab.listen();
  project = await gitlab.projects.add({ path: "top/sub/app" });
  doubles = [];
});

afterEach(async () => {
  for (const double of doubles) await double.close();
  await gitlab.close();
});

function as(given: Given): RestDouble & { token: AccessToken } {
  const token = gitlab.tokens.add(given);
  const double = createRestDouble(gitlab.url, token.token);
  doubles.push(double);
  return { ...double, token };
}

function nextLink(link: unknown): string | undefined {
  const url = /<([^>]+)>; rel="next"/.exec(String(link))?.[1];
  return url?.slice(`${gitlab.url}/api/v4`.length);
}

describe("an access token", () => {
  test("tells of itself whatever its scopes, and of its user", async () => {
    const api = as({ scopes: ["create_runner"], expiresAt: "2999-01-01", user: "ci" });
    const self = await api.get("/personal_access_tokens/self");
    const refused = await api.get("/user");
    const admin = await as({ scopes: ["read_user"], role: "admin" }).get("/user");

    expect(self.json()).toMatchObject({
      scopes: ["create_runner"],
      active: true,
      expires_at: "2999-01-01",
      user_id: api.token.user.id,
    });
    expect([refused.status, refused.json()["error"]]).toEqual([403, "insufficient_scope"]);
    expect([admin.status, admin.json()["is_admin"]]).toEqual([200, true]);
  });

  test("is refused with 401 when unknown, expired or revoked", async () => {
    const unknown = createRestDouble(gitlab.url, "glpat-nobody");
    doubles.push(unknown);
    const today = new Date(clock.now()).toISOString().slice(0, 10);
    const expired = as({ scopes: ["api"], expiresAt: today });
    const revoked = as({ scopes: ["api"] });
    revoked.token.revoked = true;
    const answers = [await unknown.get("/user"), await expired.get("/user"), await revoked.get("/user")];

    expect(answers.map((answer) => answer.status)).toEqual([401, 401, 401]);
    expect(answers.map((answer) => answer.json()["error"] ?? answer.json()["message"])).toEqual([
      "401 Unauthorized",
      "invalid_token",
      "invalid_token",
    ]);
    expect(gitlab.violations.map(({ rule }) => rule)).toEqual(["wrong-token"]);
  });

  test("with manage_runner opens addresses with a runner's id and no others", async () => {
    const runner = gitlab.runners.add({ group: "top" });
    const api = as({ scopes: ["manage_runner"] });
    const answers = [
      await api.get(`/runners/${runner.id}`),
      await api.put(`/runners/${runner.id}`, { paused: true }),
      await api.get("/groups/top/runners"),
      await api.get(`/projects/${project.id}/jobs`),
      await api.post("/user/runners", { runner_type: "group_type", group_id: 501 }),
      await api.delete(`/runners/${runner.id}`),
    ];

    expect(answers.map((answer) => answer.status)).toEqual([200, 200, 403, 403, 403, 204]);
    expect(answers[4]?.json()["scope"]).toBe("api create_runner");
  });

  test("with read_api reads and does not change", async () => {
    const api = as({ scopes: ["read_api"] });
    const job = await gitlab.addJob(project);

    expect((await api.get("/projects/top%2Fsub%2Fapp")).status).toBe(200);
    expect((await api.post(`/projects/${project.id}/jobs/${job.id}/cancel`)).status).toBe(403);
  });
});

describe("roles", () => {
  test("are inherited from groups above, and what one may not see is not there", async () => {
    const member = as({ scopes: ["api"], role: "reporter", memberOf: "top/sub" });
    const other = await gitlab.projects.add({ path: "elsewhere/app" });
    const id = member.token.user.id;
    const level = (await member.get(`/projects/${project.id}/members/all/${id}`)).json()["access_level"];

    expect(level).toBe(20);
    expect((await member.get("/groups/top%2Fsub")).json()).toMatchObject({ full_path: "top/sub" });
    expect((await member.get(`/projects/${other.id}`)).json()["message"]).toBe("404 Project Not Found");
    expect((await member.get("/groups/elsewhere")).json()["message"]).toBe("404 Group Not Found");
    expect((await member.get(`/groups/top/members/all/${id}`)).status).toBe(404);
    expect((await member.get("/groups/top%2Fsub/runners")).status).toBe(403);
  });

  test("decide which projects lists show", async () => {
    await gitlab.projects.add({ path: "top/direct" });
    const archived = await gitlab.projects.add({ path: "top/old" });
    archived.archived = true;
    const api = as({ scopes: ["read_api"], role: "developer", memberOf: "top" });
    const admin = as({ scopes: ["api"], role: "admin" });
    const paths = (answer: { text: string }) =>
      (JSON.parse(answer.text) as { path_with_namespace: string }[]).map((each) => each.path_with_namespace);

    expect(paths(await api.get("/groups/top/projects?archived=false"))).toEqual(["top/direct"]);
    expect(paths(await api.get("/groups/top/projects?include_subgroups=true&archived=false"))).toEqual([
      "top/direct",
      "top/sub/app",
    ]);
    expect(paths(await api.get("/projects?membership=true"))).toHaveLength(3);
    expect(paths(await admin.get("/projects?membership=true"))).toEqual([]);
    expect(paths(await admin.get("/projects"))).toHaveLength(3);
  });
});

describe("jobs", () => {
  test("are shown with their tags, sorted, and where they are in their life", async () => {
    const job = await gitlab.addJob(project, { tags: ["vm", "arm"] });
    const api = as({ scopes: ["read_api"] });
    const shown = (await api.get(`/projects/${project.id}/jobs/${job.id}`)).json();

    expect(shown).toMatchObject({
      id: job.id,
      status: "pending",
      tag_list: ["arm", "vm"],
      runner: null,
      started_at: null,
      ref: "main",
      web_url: `${gitlab.url}/top/sub/app/-/jobs/${job.id}`,
    });
    expect((await api.get(`/projects/${project.id}/jobs/999`)).status).toBe(404);
  });

  test("come by cursor, newest first, with a link to the next page and no count", async () => {
    const ids = [];
    for (let at = 0; at < 5; at++) ids.push((await gitlab.addJob(project)).id);
    const ended = await gitlab.addJob(project);
    gitlab.jobs.cancel(ended);
    const api = as({ scopes: ["read_api"] });
    const query = "scope[]=pending&per_page=2&order_by=id&pagination=keyset";
    const seen: number[] = [];
    let path: string | undefined = `/projects/${project.id}/jobs?${query}`;
    while (path !== undefined) {
      const answer = await api.get(path);
      seen.push(...(JSON.parse(answer.text) as { id: number }[]).map((each) => each.id));
      expect(answer.headers["x-total"]).toBeUndefined();
      path = nextLink(answer.headers["link"]);
    }

    expect(seen).toEqual(ids.toReversed());
    expect(gitlab.violations).toEqual([]);
  });

  test("come by number of page, too, and a hundred at most", async () => {
    for (let at = 0; at < 101; at++) await gitlab.addJob(project);
    const api = as({ scopes: ["read_api"] });
    const first = await api.get(`/projects/${project.id}/jobs?per_page=500`);
    const second = await api.get(nextLink(first.headers["link"])!);

    expect(JSON.parse(first.text)).toHaveLength(100);
    expect(JSON.parse(second.text)).toHaveLength(1);
    expect([first.headers["x-next-page"], second.headers["x-next-page"]]).toEqual(["2", ""]);
  });

  test("of an unknown scope, page or order are refused", async () => {
    const api = as({ scopes: ["read_api"] });
    const answers = [
      await api.get(`/projects/${project.id}/jobs?scope[]=waiting`),
      await api.get(`/projects/${project.id}/jobs?per_page=0`),
      await api.get(`/projects/${project.id}/jobs?pagination=keyset&order_by=id&sort=asc`),
    ];

    expect(answers.map((answer) => answer.status)).toEqual([400, 400, 405]);
  });

  test("can be listed without an end, and with links to another host", async () => {
    await gitlab.addJob(project);
    const api = as({ scopes: ["read_api"] });
    const path = `/projects/${project.id}/jobs?order_by=id&pagination=keyset`;
    gitlab.behaviour.endlessPages = true;
    const first = await api.get(path);
    const second = await api.get(nextLink(first.headers["link"])!);
    gitlab.behaviour.linkOrigin = "https://elsewhere.example.org";
    const third = await api.get(path);

    expect(JSON.parse(second.text)).toHaveLength(1);
    expect(nextLink(second.headers["link"])).toBeDefined();
    expect(third.headers["link"]).toContain("<https://elsewhere.example.org/api/v4/projects/");
  });
});

describe("the rate limit", () => {
  test("is told with every answer, and ends in 429 with Retry-After", async () => {
    gitlab.behaviour.limits = { ...gitlab.behaviour.limits, apiPerUser: 2 };
    const api = as({ scopes: ["api"] });
    const answers = [await api.get("/user"), await api.get("/user"), await api.get("/user")];
    await clock.advance(60_000);
    const later = await api.get("/user");

    expect(answers.map((answer) => answer.status)).toEqual([200, 200, 429]);
    expect(answers.map((answer) => answer.headers["ratelimit-remaining"])).toEqual(["1", "0", "0"]);
    expect(Number(answers[2]?.headers["retry-after"])).toBeGreaterThan(0);
    expect(Number(answers[0]?.headers["ratelimit-reset"]) * 1_000).toBeGreaterThan(clock.now() - 60_000);
    expect(later.status).toBe(200);
    expect(gitlab.violations).toEqual([]);
  });

  test("is a violation only for who asks again before the time named", async () => {
    gitlab.behaviour.limits = { ...gitlab.behaviour.limits, apiPerUser: 0 };
    const api = as({ scopes: ["api"] });
    await api.get("/user");
    await clock.advance(2_000);
    await api.get("/user");

    expect(gitlab.violations.map(({ rule }) => rule)).toEqual(["rate-limit"]);
  });
});

test("faults hit routes of the REST API, one by one or all", async () => {
  const api = as({ scopes: ["api"] });
  gitlab.faults.add("rest-jobs", { kind: "status", status: 502, html: true });
  gitlab.faults.add("rest", { kind: "cut" });
  const user = api.get("/user").catch(() => "cut");

  expect(await user).toBe("cut");
  expect((await api.get(`/projects/${project.id}/jobs`)).status).toBe(502);
  expect((await api.get(`/projects/${project.id}/jobs`)).status).toBe(200);
});
