import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createManualClock, type ManualClock } from "../../../../src/base/manual-clock.ts";
import type { Project } from "../model.ts";
import { createStandInGitLab, type StandInGitLab } from "../stand-in.ts";
import { createRestDouble, createRunnerDouble, type RestDouble, type RunnerDouble } from "../test-clients.ts";

const WEEK_MS = 7 * 24 * 3_600_000;

let clock: ManualClock;
let gitlab: StandInGitLab;
let project: Project;
let groupId: number;
let api: RestDouble;
let client: RunnerDouble;

beforeEach(async () => {
  clock = createManualClock();
  gitlab = createStandInGitLab({ clock, behaviour: { longPollMs: 0 } });
  await gitlab.listen();
  project = await gitlab.projects.add({ path: "top/sub/app" });
  groupId = gitlab.groups.at("top").id;
  api = createRestDouble(gitlab.url, gitlab.tokens.add({ scopes: ["api"] }).token);
  client = createRunnerDouble(gitlab.url);
});

afterEach(async () => {
  await api.close();
  await client.close();
  await gitlab.close();
});

function rules(): string[] {
  return gitlab.violations.map((violation) => violation.rule);
}

async function create(more: object = {}): Promise<{ id: number; token: string }> {
  const answer = await api.post("/user/runners", { runner_type: "group_type", group_id: groupId, ...more });
  expect(answer.status).toBe(201);
  return answer.json() as { id: number; token: string };
}

describe("a new runner", () => {
  test("gets a token, and takes jobs of its group with its tags", async () => {
    const outside = await gitlab.projects.add({ path: "other/app" });
    const made = await create({ tag_list: ["vm", "arm"], run_untagged: false, description: "ours" });
    await gitlab.addJob(outside, { tags: ["vm"] });
    await gitlab.addJob(project);
    const job = await gitlab.addJob(project, { tags: ["arm"] });
    const claim = await client.claim(made.token);

    expect(made).toEqual({ id: made.id, token: expect.stringMatching(/^glrt-/), token_expires_at: null });
    expect(claim.id).toBe(job.id);
    expect((await client.requestJob(made.token)).status).toBe(204);
    expect((await api.get(`/runners/${made.id}`)).json()).toMatchObject({
      runner_type: "group_type",
      tag_list: ["vm", "arm"],
      run_untagged: false,
      description: "ours",
      groups: [{ id: groupId }],
    });
  });

  test("of a project, and one for protected branches, take only what is theirs", async () => {
    const sibling = await gitlab.projects.add({ path: "top/sub/other" });
    const own = await create({ runner_type: "project_type", project_id: project.id });
    const careful = await create({ access_level: "ref_protected", maximum_timeout: 600 });
    await gitlab.addJob(sibling, {}, { protectedRef: false });
    expect((await client.requestJob(own.token)).status).toBe(204);
    expect((await client.requestJob(careful.token)).status).toBe(204);
    await gitlab.addJob(sibling);
    const { payload } = await client.claim(careful.token);

    expect(payload["runner_info"]).toMatchObject({ timeout: 600 });
  });

  test.each([
    [{ runner_type: "group" }, "runner_type does not have a valid value"],
    [{ runner_type: "project_type" }, "project_id is missing"],
    [{ group_id: 1 }, "400 Bad request - Missing/invalid scope"],
    [{ run_untagged: false }, "Tags list can not be empty when runner is not allowed to pick untagged jobs"],
    [{ tag_list: Array.from({ length: 51 }, (_, at) => `t${at}`) }, "limit the number of tags to 50"],
    [{ maximum_timeout: 599 }, "Maximum timeout needs to be at least 10 minutes"],
    [{ description: "x".repeat(1_025) }, "Description is too long (maximum is 1024 characters)"],
    [{ paused: "maybe" }, "paused is invalid"],
  ])("is refused when it says %j", async (more, words) => {
    const answer = await api.post("/user/runners", {
      runner_type: "group_type",
      group_id: groupId,
      ...more,
    });

    expect([answer.status, answer.text]).toEqual([400, expect.stringContaining(words)]);
    expect(rules()).toEqual(["bad-request"]);
  });

  test("needs the role: administrator, owner, maintainer", async () => {
    const given = gitlab.tokens.add({ scopes: ["create_runner"], role: "maintainer" });
    const maintainer = createRestDouble(gitlab.url, given.token);
    const answers = [
      await maintainer.post("/user/runners", { runner_type: "instance_type" }),
      await maintainer.post("/user/runners", { runner_type: "group_type", group_id: groupId }),
      await maintainer.post("/user/runners", { runner_type: "project_type", project_id: project.id }),
    ];
    await maintainer.close();

    expect(answers.map((answer) => answer.status)).toEqual([403, 403, 201]);
    expect(answers[0]?.json()["message"]).toBe("403 Forbidden - Insufficient permissions");
  });

  test("is one too many when the plan's limit is met; deleting and a week of silence make room", async () => {
    gitlab.behaviour.runnersPerGroup = 1;
    const body = { runner_type: "group_type", group_id: groupId };
    const first = await create();
    const refused = await api.post("/user/runners", body);
    await api.delete(`/runners/${first.id}`);
    await create();
    await clock.advance(WEEK_MS + 1_000);
    await create();

    expect([refused.status, refused.json()["message"]]).toEqual([
      400,
      "400 Bad request - Maximum number of ci registered group runners (1) exceeded",
    ]);
    expect(rules()).toEqual([]);
  });
});

describe("lists of runners", () => {
  test("show a group's own, inherited and the instance's, narrowed by type", async () => {
    const own = await create();
    const instance = gitlab.runners.add({});
    gitlab.runners.add({ project });
    const ids = (answer: { text: string }) =>
      (JSON.parse(answer.text) as { id: number }[]).map((runner) => runner.id);
    const all = await api.get("/groups/top%2Fsub/runners");

    expect(ids(all)).toEqual([instance.id, own.id]);
    expect(ids(await api.get("/groups/top/runners?type=group_type"))).toEqual([own.id]);
    expect(ids(await api.get(`/projects/${project.id}/runners?type=project_type`))).toHaveLength(1);
    expect(JSON.parse(all.text)[0]).not.toHaveProperty("tag_list");
    expect((await api.get("/runners/all")).status).toBe(403);
  });

  test("tell who is online", async () => {
    const made = await create();
    const online = async () => {
      const { online, status } = (await api.get(`/runners/${made.id}`)).json();
      return [online, status];
    };
    const seen = [await online()];
    await client.verify(made.token);
    seen.push(await online());
    await client.requestJob(made.token);
    seen.push(await online());
    await clock.advance(2 * 3_600_000 + 1);
    seen.push(await online());

    expect(seen).toEqual([
      [null, "never_contacted"],
      [true, "offline"],
      [true, "online"],
      [false, "offline"],
    ]);
  });
});

describe("a job", () => {
  test("is stuck while no runner that could take it is online", async () => {
    const job = await gitlab.addJob(project, { tags: ["vm"] });
    const made = await create({ tag_list: "vm" });
    const seen = [gitlab.runners.isStuck(job)];
    await client.verify(made.token);
    seen.push(gitlab.runners.isStuck(job));
    await clock.advance(2 * 3_600_000);
    seen.push(gitlab.runners.isStuck(job));

    expect(seen).toEqual([true, false, true]);
  });

  test("is listed with the runner that took it, by status", async () => {
    const made = await create();
    const job = await gitlab.addJob(project);
    await client.claim(made.token);
    const running = await api.get(`/runners/${made.id}/jobs?status=running`);
    const shown = await api.get(`/projects/${project.id}/jobs/${job.id}`);

    expect(JSON.parse(running.text)).toMatchObject([{ id: job.id, project: { id: project.id } }]);
    expect((await api.get(`/runners/${made.id}/jobs?status=success`)).text).toBe("[]");
    expect(shown.json()).toMatchObject({
      runner: { id: made.id },
      runner_manager: { system_id: expect.stringMatching(/^s_/), version: "18.9.0" },
    });
  });
});

describe("a runner that is there", () => {
  test("gets nothing while it is paused", async () => {
    const made = await create();
    await api.put(`/runners/${made.id}`, { paused: true });
    await gitlab.addJob(project);
    const paused = await client.requestJob(made.token);
    await api.put(`/runners/${made.id}`, { paused: false });

    expect([paused.status, (await client.requestJob(made.token)).status]).toEqual([204, 201]);
    expect((await api.put(`/runners/${made.id}`, {})).status).toBe(400);
  });

  test("is deleted by id or token, and its token with it", async () => {
    const [first, second] = [await create(), await create()];
    const answers = [
      await api.delete(`/runners/${first.id}`),
      await api.get(`/runners/${first.id}`),
      await api.delete("/runners", { token: second.token }),
      await client.requestJob(second.token),
    ];

    expect(answers.map((answer) => answer.status)).toEqual([204, 404, 204, 403]);
    // Whoever deletes a runner knows that its token is dead.
    expect(rules()).toEqual(["wrong-token"]);
  });

  test("leaves a violation when it is deleted before its job has ended", async () => {
    const made = await create();
    const job = await gitlab.addJob(project);
    const claim = await client.claim(made.token);
    await api.delete(`/runners/${made.id}`);
    const end = await client.update(claim.id, claim.token, "success");

    expect([end.status, job.status, rules()]).toEqual([200, "success", ["runner-deleted-early"]]);
  });

  test("deleted by hand may be asked with a few times, not without an end", async () => {
    const made = await create();
    gitlab.runners.remove(made.id);
    for (let at = 0; at < 10; at++) expect((await client.requestJob(made.token)).status).toBe(403);
    expect(rules()).toEqual([]);
    await client.requestJob(made.token);

    expect(rules()).toEqual(["wrong-token"]);
  });

  test("gets another token with an expiry, and the old one is dead at once", async () => {
    gitlab.behaviour.runnerTokenLifeMs = 3_600_000;
    const made = await create();
    const verified = (await client.verify(made.token)).json();
    const reset = await api.post("/runners/reset_authentication_token", { token: made.token });
    const token = String(reset.json()["token"]);
    const statuses = [(await client.verify(made.token)).status, (await client.verify(token)).status];
    await clock.advance(3_600_000);

    expect(verified["token_expires_at"]).toBe(new Date(clock.now()).toISOString());
    expect([reset.status, ...statuses]).toEqual([201, 403, 200]);
    expect((await client.verify(token)).status).toBe(403);
  });
});
