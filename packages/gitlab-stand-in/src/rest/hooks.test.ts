import { randomBytes } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Project } from "../model.ts";
import { createStandInGitLab, type StandInGitLab } from "../stand-in.ts";
import { createRestDouble, type RestDouble } from "../test-clients.ts";

const url = "http://127.0.0.1:1/webhook";
const signingToken = `whsec_${randomBytes(32).toString("base64")}`;

let gitlab: StandInGitLab;
let project: Project;
let api: RestDouble;

beforeEach(async () => {
  gitlab = createStandInGitLab();
  await gitlab.listen();
  project = await gitlab.projects.add({ path: "top/sub/app" });
  api = createRestDouble(gitlab.url, gitlab.tokens.add({ scopes: ["api"] }).token);
});

afterEach(async () => {
  await api.close();
  await gitlab.close();
});

describe("a hook of a project", () => {
  test("is kept with its settings and shows of its secrets only that they are there", async () => {
    const path = `/projects/${project.id}/hooks`;
    const secrets = { signing_token: signingToken, token: "hush" };
    const switches = { job_events: true, push_events: false, enable_ssl_verification: false };
    const id = (await api.post(path, { url, ...secrets, ...switches })).json()["id"];
    const changed = await api.put(`${path}/${id}`, { url, pipeline_events: true });
    const listed = await api.get(path);

    expect(changed.json()).toMatchObject({
      id,
      url,
      job_events: true,
      pipeline_events: true,
      push_events: false,
      enable_ssl_verification: false,
      token_present: true,
      signing_token_present: true,
      alert_status: "executable",
      disabled_until: null,
    });
    expect(changed.text + listed.text).not.toMatch(/hush|whsec_/);
    expect(JSON.parse(listed.text)).toEqual([changed.json()]);
    expect((await api.delete(`${path}/${id}`)).status).toBe(204);
    expect((await api.get(`${path}/${id}`)).status).toBe(404);
  });

  test.each([
    [{}, 400],
    [{ url: "receiver" }, 422],
    [{ url: "ftp://receiver.example.org" }, 422],
    [{ url: "https://receiver.example.org", signing_token: "whsec_c2hvcnQ=" }, 422],
    [{ url: "https://receiver.example.org", signing_token: randomBytes(32).toString("base64") }, 422],
  ])("is refused when it is %j", async (settings, status) => {
    expect((await api.post(`/projects/${project.id}/hooks`, settings)).status).toBe(status);
  });

  test("needs a maintainer, and an administrator's leave for receivers in the local network", async () => {
    const given = gitlab.tokens.add({ scopes: ["api"], role: "developer" });
    const developer = createRestDouble(gitlab.url, given.token);
    const refused = await developer.get(`/projects/${project.id}/hooks`);
    await developer.close();
    gitlab.behaviour.hooks.localReceivers = false;

    expect(refused.status).toBe(403);
    expect((await api.post(`/projects/${project.id}/hooks`, { url })).status).toBe(422);
  });
});
