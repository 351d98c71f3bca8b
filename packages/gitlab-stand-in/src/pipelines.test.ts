import { afterEach, beforeEach, expect, test } from "vitest";
import { parsePipeline } from "../../../src/ci/parse.ts";
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

async function create(yaml: string) {
  const pipeline = await gitlab.pipelines.create(await gitlab.projects.add(), parsePipeline(yaml));
  const statuses = () => gitlab.pipelines.jobs(pipeline).map((job) => `${job.definition.name} ${job.status}`);
  return { pipeline, statuses };
}

async function finish(state: string, more = {}) {
  const claim = await client.claim(token);
  await client.update(claim.id, claim.token, state, more);
  return claim;
}

test("jobs start when their turn comes, and the pipeline ends with them", async () => {
  const { pipeline, statuses } = await create(`
a: { stage: build, script: x }
b: { stage: test, script: x }
c: { stage: deploy, script: x, needs: [a] }
d: { stage: deploy, script: x, when: on_failure }
`);
  expect(statuses()).toEqual(["a pending", "b created", "c created", "d created"]);
  await finish("success");
  expect(statuses()).toEqual(["a success", "b pending", "c pending", "d created"]);
  await finish("success");
  await finish("success");

  expect(statuses()).toEqual(["a success", "b success", "c success", "d skipped"]);
  expect(gitlab.pipelines.status(pipeline)).toBe("success");
});

test("a failure skips what comes after, one step at a time to the end", async () => {
  const { pipeline, statuses } = await create(`
a: { stage: build, script: x }
b: { stage: test, script: x }
c: { stage: deploy, script: x, needs: [b] }
`);
  await finish("failed", { failure_reason: "script_failure" });

  expect(statuses()).toEqual(["a failed", "b skipped", "c skipped"]);
  expect(gitlab.pipelines.status(pipeline)).toBe("failed");
});

test("retry tries again as a new job, as often as allowed and for the reasons named", async () => {
  const { pipeline, statuses } = await create(
    "a: { script: x, retry: { max: 1, when: [runner_system_failure] } }\nb: { script: x, stage: deploy }",
  );
  const first = await finish("failed", { failure_reason: "runner_system_failure" });
  expect(statuses()).toEqual(["a pending", "b created"]);
  const second = await finish("failed", { failure_reason: "runner_system_failure" });

  expect(second.id).not.toBe(first.id);
  expect(statuses()).toEqual(["a failed", "b skipped"]);
  expect(gitlab.pipelines.status(pipeline)).toBe("failed");
});

test("a failure for another reason is not tried again", async () => {
  const { statuses } = await create("a: { script: x, retry: { max: 2, when: runner_system_failure } }");
  await finish("failed", { failure_reason: "script_failure" });

  expect(statuses()).toEqual(["a failed"]);
});

test("an exit code that allow_failure names is forgiven, others are not", async () => {
  const yaml = "a: { script: x, stage: build, allow_failure: { exit_codes: 3 } }\nb: { script: x }";
  const forgiven = await create(yaml);
  await finish("failed", { exit_code: 3 });
  expect(forgiven.statuses()).toEqual(["a failed", "b pending"]);
  await finish("success");
  const strict = await create(yaml);
  await finish("failed", { exit_code: 4 });

  expect(strict.statuses()).toEqual(["a failed", "b skipped"]);
});

test("a job can be retried by hand", async () => {
  const { pipeline, statuses } = await create("a: { script: x }");
  await finish("failed");
  gitlab.pipelines.retry(gitlab.pipelines.jobs(pipeline)[0]!);
  await finish("success");

  expect(statuses()).toEqual(["a success"]);
});
