import { createHash, randomBytes } from "node:crypto";
import { connect } from "node:net";
import { Readable } from "node:stream";
import { request } from "undici";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { jobDefinition } from "../../../src/ci/definition.ts";
import { parseExpireInMs } from "../../../src/ci/duration.ts";
import type { Project } from "./model.ts";
import { createStandInGitLab, type StandInGitLab } from "./stand-in.ts";
import { createRunnerDouble, type RunnerDouble } from "./test-clients.ts";

let gitlab: StandInGitLab;
let client: RunnerDouble;
let project: Project;
let token: string;

beforeEach(async () => {
  gitlab = createStandInGitLab({ behaviour: { longPollMs: 0 } });
  await gitlab.listen();
  client = createRunnerDouble(gitlab.url);
  project = await gitlab.projects.add();
  token = gitlab.runners.add({}).token;
});

afterEach(async () => {
  await client.close();
  await gitlab.close();
});

function rules(): string[] {
  return gitlab.violations.map((violation) => violation.rule);
}

async function claimed(definition = {}) {
  const job = await gitlab.addJob(project, definition);
  return { job, ...(await client.claim(token)) };
}

describe("an upload", () => {
  test("is stored byte for byte, also when it holds what looks like a boundary", async () => {
    const content = Buffer.concat([
      randomBytes(200_000),
      Buffer.from("\r\n--0123456789abcde\r\n"),
      randomBytes(999),
    ]);
    const { job, id, token: jobToken } = await claimed();
    const answer = await client.upload(id, jobToken, "pack.zip", content);
    const back = await request(`${gitlab.url}/api/v4/jobs/${id}/artifacts`, {
      headers: { "JOB-TOKEN": jobToken },
    });
    const bytes = Buffer.from(await back.body.arrayBuffer());

    expect(answer.status).toBe(201);
    expect(job.artifacts).toMatchObject([
      { type: "archive", filename: "pack.zip", sizeBytes: content.length },
    ]);
    expect(createHash("sha256").update(bytes).digest("hex")).toBe(
      createHash("sha256").update(content).digest("hex"),
    );
    expect(back.headers["content-disposition"]).toBe('attachment; filename="pack.zip"');
  });

  test("is read right in whatever pieces it comes", async () => {
    const { job, id, token: jobToken } = await claimed();
    const text = `--b\r\nContent-Disposition: form-data; name="other"\r\n\r\nx\r\n--b\r\nContent-Disposition: form-data; name="file"; filename="a.zip"\r\n\r\nhello\r\n--b--\r\n`;
    const pieces = Readable.from([...text].map((pending) => Buffer.from(pending)));
    const answer = await request(`${gitlab.url}/api/v4/jobs/${id}/artifacts`, {
      method: "POST",
      headers: { "JOB-TOKEN": jobToken, "Content-Type": "multipart/form-data; boundary=b" },
      body: pieces,
    });

    expect([answer.statusCode, job.artifacts[0]?.sizeBytes]).toEqual([201, 5]);
  });

  test("too large is 413 and leaves nothing", async () => {
    gitlab.behaviour.maxArtifactBytes = 1_000;
    const { job, id, token: jobToken } = await claimed();
    const answer = await client.upload(id, jobToken, "big.zip", randomBytes(3_000_000));

    expect([answer.status, job.artifacts]).toEqual([413, []]);
  });

  test("without a file, or not multipart, is 400; a second of one type too", async () => {
    const { id, token: jobToken } = await claimed();
    const headers = { "JOB-TOKEN": jobToken, "Content-Type": "application/zip" };
    const raw = await client.call("POST", `/api/v4/jobs/${id}/artifacts`, { headers, body: "x" });
    const empty = await client.call("POST", `/api/v4/jobs/${id}/artifacts`, {
      headers: { ...headers, "Content-Type": "multipart/form-data; boundary=b" },
      body: "--b--\r\n",
    });
    const cut = await client.call("POST", `/api/v4/jobs/${id}/artifacts`, {
      headers: { ...headers, "Content-Type": "multipart/form-data; boundary=b" },
      body: '--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nhalf',
    });
    const first = await client.upload(id, jobToken, "a.zip", "a");
    const second = await client.upload(id, jobToken, "b.zip", "b");

    expect([raw, empty, cut, first, second].map((answer) => answer.status)).toEqual([
      400, 400, 400, 201, 400,
    ]);
    expect(rules()).toEqual(["bad-request", "bad-request", "bad-request", "duplicate-artifact"]);
  });

  test("of a job that has ended or with a foreign token is 403", async () => {
    const ended = await claimed();
    await client.update(ended.id, ended.token, "success");
    const other = await claimed();

    expect((await client.upload(ended.id, ended.token, "a", "a")).status).toBe(403);
    expect((await client.upload(other.id, ended.token, "a", "a")).status).toBe(403);
  });

  test("whose connection is cut leaves the job without it and the server well", async () => {
    const { job, id, token: jobToken } = await claimed();
    const socket = connect(Number(new URL(gitlab.url).port), "127.0.0.1");
    socket.write(
      `POST /api/v4/jobs/${id}/artifacts HTTP/1.1\r\nHost: x\r\nJOB-TOKEN: ${jobToken}\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000\r\n\r\n--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nhalf`,
    );
    await new Promise((resolve) => setTimeout(resolve, 50));
    socket.destroy();

    expect((await client.update(id, jobToken, "running")).status).toBe(200);
    expect(job.artifacts).toEqual([]);
  });
});

describe("a download", () => {
  test("needs the token of a running job of the same project", async () => {
    const build = await claimed();
    await client.upload(build.id, build.token, "a.zip", "content");
    await client.update(build.id, build.token, "success");
    const use = await claimed();
    const foreignProject = await gitlab.projects.add({ path: "other/one" });
    await gitlab.addJob(foreignProject);
    const foreign = await client.claim(token);
    const answers = [
      await client.download(build.id, use.token),
      await client.download(build.id, build.token),
      await client.download(build.id, foreign.token),
      await client.download(use.id, use.token),
    ];

    expect(answers.map((answer) => answer.status)).toEqual([200, 401, 404, 404]);
    expect(answers[0]?.text).toBe("content");
  });

  test("goes to the object storage when asked, with a signed address and no token", async () => {
    gitlab.behaviour.directDownload = true;
    const { id, token: jobToken } = await claimed();
    await client.upload(id, jobToken, "a.zip", "content");
    const plain = await client.download(id, jobToken);
    const redirect = await client.download(id, jobToken, "?direct_download=true");
    const location = String(redirect.headers["location"]);
    const followed = await request(location);
    const leaked = await request(location, { headers: { "JOB-TOKEN": jobToken } });
    const twice = await request(location, { headers: { Authorization: "Basic eDp5" } });
    const forged = await request(location.replace(/Signature=..../, "Signature=0000"));

    expect([plain.status, redirect.status]).toEqual([200, 302]);
    expect(new URL(location).host).not.toBe(new URL(gitlab.url).host);
    expect([followed.statusCode, await followed.body.text()]).toEqual([200, "content"]);
    expect([leaked, twice, forged].map((answer) => answer.statusCode)).toEqual([200, 400, 403]);
    expect(rules()).toEqual(["leaked-credentials", "leaked-credentials"]);
    await Promise.all([leaked, twice, forged].map((answer) => answer.body.dump()));
  });
});

test("a job whose dependency's artifacts have expired fails before it is given out", async () => {
  const pipeline = await gitlab.pipelines.create(project, {
    stages: ["build", "test"],
    notices: [],
    jobs: [jobDefinition({ name: "build", stage: "build" }), jobDefinition({ name: "use", stage: "test" })],
  });
  const build = await client.claim(token);
  await client.upload(build.id, build.token, "a.zip", "a", "artifact_type=archive&expire_in=0+sec");
  await new Promise((resolve) => setTimeout(resolve, 5));
  await client.update(build.id, build.token, "success");
  const answer = await client.requestJob(token);
  const use = gitlab.pipelines.jobs(pipeline)[1];

  expect([answer.status, use?.failureReason]).toEqual([204, "missing_dependency_failure"]);
});

test("a dependency is given with its file and the running job's token", async () => {
  await gitlab.pipelines.create(project, {
    stages: ["build", "test"],
    notices: [],
    jobs: [
      jobDefinition({ name: "with", stage: "build" }),
      jobDefinition({ name: "without", stage: "build" }),
      jobDefinition({ name: "use", stage: "test" }),
    ],
  });
  const [first, second] = [await client.claim(token), await client.claim(token)];
  await client.upload(first.id, first.token, "a.zip", "1234");
  for (const { id, token: jobToken } of [first, second]) await client.update(id, jobToken, "success");
  const use = await client.claim(token);

  expect(use.payload["dependencies"]).toEqual([
    { id: first.id, name: "with", token: use.token, artifacts_file: { filename: "a.zip", size: 4 } },
  ]);
});

test.each([
  ["1 week", 604_800_000],
  ["3 mins 4 sec", 184_000],
  ["2h20min", 8_400_000],
  ["6 mos 1 day", 6 * 2_592_000_000 + 86_400_000],
  ["42", 42_000],
  ["never", undefined],
  ["soon", Number.NaN],
  ["3 fortnights", Number.NaN],
])("expire_in %j is %j ms", (text, ms) => {
  expect(parseExpireInMs(text)).toEqual(ms);
});
