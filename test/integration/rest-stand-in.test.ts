import type { Project } from "@firerunner/gitlab-stand-in/model";
import { createStandInGitLab, type StandInGitLab } from "@firerunner/gitlab-stand-in/stand-in";
import { createRunnerDouble } from "@firerunner/gitlab-stand-in/test-clients";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import { Secret } from "../../src/base/secret.ts";
import { createGitLabHttp, type GitLabHttp } from "../../src/gitlab/http.ts";
import { createGitLabRest } from "../../src/gitlab/rest.ts";
import type { GitLabRest, Scope } from "../../src/gitlab/rest-api.ts";

/** The client of the product and the stand-in share no code: where they agree, each is a check of the other. */
let gitlab: StandInGitLab;
let http: GitLabHttp;
let project: Project;

beforeEach(async () => {
  gitlab = createStandInGitLab({ behaviour: { longPollMs: 0 } });
  await gitlab.listen();
  http = createGitLabHttp({ url: gitlab.url });
  project = await gitlab.projects.add({ path: "top/sub/app" });
});

afterEach(async () => {
  await http.close();
  await gitlab.close();
});

function restWith(options: Parameters<StandInGitLab["tokens"]["add"]>[0]): GitLabRest {
  const { token } = gitlab.tokens.add(options);
  return createGitLabRest({ http, clock: systemClock, version: "0", token: () => new Secret(token) });
}

test("the smallest set of scopes finds jobs, makes runners and deletes them without a complaint", async () => {
  const rest = restWith({
    scopes: ["read_api", "create_runner", "manage_runner"],
    expiresAt: "2999-01-01",
    role: "owner",
    memberOf: "top",
  });
  const facts = await rest.tokenFacts();
  const scope = await rest.findScope({ kind: "group", name: "top" });
  for (let at = 0; at < 150; at++) await gitlab.addJob(project, { tags: ["vm", "arm"] });
  const [known] = await rest.projectsOf(scope);
  const pending = await rest.pendingJobs(project.id);
  const made = await rest.createRunner({ scope, description: "ours", tags: ["arm", "vm"], protected: false });
  const client = createRunnerDouble(gitlab.url);
  const claim = await client.claim(made.token.reveal());
  const busy = await rest.hasRunningJobs(made.id);
  await client.update(claim.id, claim.token, "success");
  const idle = await rest.hasRunningJobs(made.id);
  await client.close();
  const listed = await rest.runnersOf(scope);
  await rest.restoreRunner(made.id, { tags: ["vm"], protected: true });
  const restored = { ...gitlab.runners.get(made.id) };
  await rest.deleteRunner(made.id);
  await rest.deleteRunner(made.id);

  expect(facts).toMatchObject({ scopes: ["read_api", "create_runner", "manage_runner"], active: true });
  expect(known).toEqual({ id: project.id, path: "top/sub/app" });
  expect(pending).toHaveLength(150);
  expect(pending[0]?.tags).toEqual(["arm", "vm"]);
  expect([busy, idle]).toEqual([true, false]);
  expect(listed).toMatchObject([{ id: made.id, description: "ours", online: true }]);
  expect(restored).toMatchObject({ tags: ["vm"], accessLevel: "ref_protected", runUntagged: false });
  expect(rest.budget?.limit).toBe(2_000);
  expect(await rest.job(project.id, claim.id)).toMatchObject({ status: "success" });
  expect(gitlab.violations).toEqual([]);
});

test.each(["group", "project"] as const)("a hook of a %s is made, repaired and tried", async (kind) => {
  const rest = restWith({ scopes: ["api"] });
  const scope: Scope = await rest.findScope({ kind, name: kind === "group" ? "top" : "top/sub/app" });
  const settings = {
    url: "http://127.0.0.1:1/webhook",
    signingToken: new Secret(`whsec_${Buffer.alloc(32, 7).toString("base64")}`),
    token: undefined,
  };
  await gitlab.addJob(project);
  const made = await rest.createHook(scope, settings);
  const repaired = await rest.updateHook(scope, made.id, settings);

  expect(made).toMatchObject({ jobEvents: true, pipelineEvents: true, signingTokenPresent: true });
  expect(await rest.hooksOf(scope)).toEqual([repaired]);
  await expect(rest.testHook(scope, made.id, "job_events")).rejects.toMatchObject({ code: "gitlab_refused" });
  expect(gitlab.violations).toEqual([]);
});

test("refusals become the codes that advice is given by", async () => {
  const scope = { kind: "group", id: gitlab.groups.at("top").id, path: "top" } as const;
  const wanted = { scope, description: "ours", tags: ["vm"], protected: false };
  const code = (call: Promise<unknown>) =>
    call.then(() => "none").catch((error: { code: string }) => error.code);
  const owner = restWith({ scopes: ["api"] });
  gitlab.behaviour.runnersPerGroup = 0;

  expect(await code(owner.createRunner(wanted))).toBe("gitlab_refused");
  expect(await code(restWith({ scopes: ["read_api"] }).createRunner(wanted))).toBe("gitlab_forbidden");
  expect(await code(restWith({ scopes: ["api"], role: "guest" }).createRunner(wanted))).toBe(
    "gitlab_forbidden",
  );
  expect(await code(restWith({ scopes: ["api"], expiresAt: "2020-01-01" }).tokenFacts())).toBe(
    "gitlab_api_token",
  );
  expect(await code(owner.findProject("top/nothing"))).toBe("gitlab_not_found");
  gitlab.faults.add("rest", { kind: "status", status: 502, html: true });
  expect(await code(owner.pendingJobs(project.id))).toBe("gitlab_unavailable");
  gitlab.behaviour.limits = { ...gitlab.behaviour.limits, apiPerUser: 0 };
  expect(await code(owner.pendingJobs(project.id))).toBe("gitlab_rate_limited");
});

test("lists that never end, or lead to another host, are not followed for ever", async () => {
  const rest = restWith({ scopes: ["api"] });
  await gitlab.addJob(project);
  gitlab.behaviour.linkOrigin = "http://elsewhere.example.org";
  gitlab.behaviour.endlessPages = true;
  await rest.pendingJobs(project.id).catch(() => {});
  const afterForeign = gitlab.requests.length;
  gitlab.behaviour.linkOrigin = undefined;
  await rest.pendingJobs(project.id).catch(() => {});

  expect(afterForeign).toBe(1);
  expect(gitlab.requests.length).toBeLessThan(1_000);
});
