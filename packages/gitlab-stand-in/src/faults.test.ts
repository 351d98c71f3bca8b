import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createStandInGitLab, type StandInGitLab } from "./stand-in.ts";
import { createRunnerDouble, type RunnerDouble } from "./test-clients.ts";

let gitlab: StandInGitLab;
let client: RunnerDouble;
let token: string;

beforeEach(async () => {
  gitlab = createStandInGitLab({ behaviour: { longPollMs: 0 } });
  await gitlab.listen();
  client = createRunnerDouble(gitlab.url);
  token = gitlab.runners.add({}).token;
});

afterEach(async () => {
  await client.close();
  await gitlab.close();
});

test("a status fault answers instead of the handler, as often as told", async () => {
  gitlab.faults.add("verify", { kind: "status", status: 502, html: true }, { times: 2 });
  const answers = [await client.verify(token), await client.verify(token), await client.verify(token)];

  expect(answers.map((answer) => answer.status)).toEqual([502, 502, 200]);
  expect(answers[0]?.headers["content-type"]).toBe("text/html");
  expect(gitlab.faults.left()).toBe(0);
});

test("a fault can name headers and one job, and others are not hit", async () => {
  const project = await gitlab.projects.add();
  const jobs = [await gitlab.addJob(project), await gitlab.addJob(project)];
  const claims = [await client.claim(token), await client.claim(token)];
  const headers = { "Retry-After": "7" };
  gitlab.faults.add("update-job", { kind: "status", status: 429, headers }, { jobId: jobs[1]!.id });
  const other = await client.update(claims[0]!.id, claims[0]!.token, "running");
  const hit = await client.update(claims[1]!.id, claims[1]!.token, "running");

  expect([other.status, hit.status, hit.headers["retry-after"]]).toEqual([200, 429, "7"]);
});

test("a cut comes before, a lost answer after the work was done", async () => {
  const project = await gitlab.projects.add();
  const [first, second] = [await gitlab.addJob(project), await gitlab.addJob(project)];
  gitlab.faults.add("request-job", { kind: "cut" });
  gitlab.faults.add("request-job", { kind: "lose-answer" });
  await expect(client.requestJob(token)).rejects.toThrow();
  expect(first.status).toBe("pending");
  await expect(client.requestJob(token)).rejects.toThrow();

  expect([first.status, second.status]).toEqual(["running", "pending"]);
  expect(gitlab.requests.map((record) => record.status)).toEqual([0, 0]);
});

test("a cut body loses the job that was in it", async () => {
  const job = await gitlab.addJob(await gitlab.projects.add());
  gitlab.faults.add("request-job", { kind: "cut-body" });

  await expect(client.requestJob(token)).rejects.toThrow();
  expect(job.status).toBe("running");
});

test("a slow body and a delay give the whole answer later", async () => {
  const job = await gitlab.addJob(await gitlab.projects.add());
  gitlab.faults.add("request-job", { kind: "slow-body", ms: 100 });
  gitlab.faults.add("update-job", { kind: "delay", ms: 50 });
  const before = Date.now();
  const claim = await client.claim(token);
  const update = await client.update(claim.id, claim.token, "running");

  expect(Date.now() - before).toBeGreaterThanOrEqual(140);
  expect([claim.id, update.status]).toEqual([job.id, 200]);
});

test("a server that is down refuses connections and comes back with all it knew", async () => {
  const job = await gitlab.addJob(await gitlab.projects.add());
  const claim = await client.claim(token);
  const { url } = gitlab;
  await gitlab.down();
  await expect(client.update(claim.id, claim.token, "running")).rejects.toThrow();
  await gitlab.up();
  const answer = await client.update(claim.id, claim.token, "success");

  expect([gitlab.url, answer.status, job.status]).toEqual([url, 200, "success"]);
});

test("going down ends a held job request", async () => {
  gitlab.behaviour.longPollMs = 60_000;
  const lastUpdate = String((await client.requestJob(token)).headers["x-gitlab-last-update"]);
  const held = client.requestJob(token, { lastUpdate }).catch((error: Error) => error);
  await vi.waitFor(() => expect(gitlab.runners.heldRequests()).toBe(1));
  await gitlab.down();

  expect(await held).toBeInstanceOf(Error);
  await vi.waitFor(() => expect(gitlab.runners.heldRequests()).toBe(0));
  await gitlab.up();
});

test("clear disarms what is left", async () => {
  gitlab.faults.add("any", { kind: "status", status: 500 }, { times: 9 });
  gitlab.faults.clear();

  expect((await client.verify(token)).status).toBe(200);
});
