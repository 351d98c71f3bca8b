import { describe, expect, test } from "vitest";
import { aJobHook, aPipelineHook } from "../../test/builders/hook.ts";
import { readHook } from "./hook-payload.ts";

const read = (event: string | undefined, json: unknown) =>
  readHook(event, Buffer.from(typeof json === "string" ? json : JSON.stringify(json)));

describe("a Job Hook", () => {
  test("tells of a job and its project", () => {
    const hook = aJobHook({ jobId: 12, projectId: 3, status: "pending" });

    expect(read("Job Hook", hook)).toEqual({
      kind: "job",
      projectId: 3,
      jobId: 12,
      status: "pending",
    });
  });

  test.each([
    ["dates of another form", { build_created_at: 17, build_created_at_iso: null }],
    ["a job that has a runner", { runner: { id: 1, tags: null } }],
    ["no commit, user or environment", { commit: undefined, user: null, environment: [] }],
    ["no project beside its id", { project: undefined }],
    ["a project that is no object", { project: "group/project" }],
    ["a project's id only in its description", { project_id: undefined }],
    ["a project_id that is no number", { project_id: "seven" }],
  ])("is understood with %s", (_what, change) => {
    expect(read("Job Hook", { ...aJobHook(), ...change })).toMatchObject({
      kind: "job",
      projectId: 7,
      jobId: 4711,
    });
  });

  test("is understood without its header, or without its object_kind", () => {
    expect(read(undefined, aJobHook())).toMatchObject({ kind: "job", jobId: 4711 });
    expect(read("Job Hook", { ...aJobHook(), object_kind: undefined })).toMatchObject({ kind: "job" });
  });

  test.each([0, -1, 1.5, 2 ** 53, "12", null, undefined, [], {}])(
    "with %j for a job's id still names its project",
    (id) => {
      expect(read("Job Hook", { ...aJobHook(), build_id: id })).toMatchObject({
        kind: "unreadable",
        projectId: 7,
      });
    },
  );

  test("has a status that is short and can be printed", () => {
    const { status } = read(
      "Job Hook",
      aJobHook({ status: `pen\u0000ding\u001b[31m${"x".repeat(1_000)}` }),
    ) as {
      status: string;
    };

    expect(status).toHaveLength(32);
    expect(status).toMatch(/^[^\p{C}]*$/u);
  });
});

describe("a Pipeline Hook", () => {
  test("tells of news in a project", () => {
    expect(read("Pipeline Hook", aPipelineHook({ status: "running" }))).toEqual({
      kind: "pipeline",
      projectId: 7,
      jobId: null,
      status: "running",
    });
  });

  test("of thousands of jobs is read", () => {
    const { builds } = aPipelineHook() as { builds: unknown[] };
    const many = Array.from({ length: 5_000 }, () => builds[0]);

    expect(read("Pipeline Hook", aPipelineHook({ builds: many }))).toMatchObject({
      kind: "pipeline",
      projectId: 7,
    });
  });
});

describe("anything else", () => {
  test.each(["Push Hook", "Merge Request Hook", "System Hook", "", "job hook"])(
    "named %j is another event",
    (event) => {
      expect(read(event, "{")).toEqual({ kind: "other" });
    },
  );

  test("without a header is judged by what it says", () => {
    expect(read(undefined, { object_kind: "push" })).toEqual({ kind: "other" });
    expect(read(undefined, {})).toMatchObject({ kind: "unreadable" });
  });

  test.each(["", "{", "null", "[]", "7", '"text"', "\u0000", "not json", '{"__proto__":{"build_id":1}}'])(
    "such as the body %j is unreadable",
    (body) => {
      expect(read("Job Hook", body)).toMatchObject({ kind: "unreadable", projectId: null });
    },
  );

  test("such as a body that was too long to be kept is unreadable", () => {
    expect(readHook("Job Hook", undefined)).toMatchObject({ kind: "unreadable", projectId: null });
  });

  test.each([
    ["brackets", "[".repeat(10_000_000)],
    ["nested objects", `${'{"a":'.repeat(1_500_000)}1${"}".repeat(1_500_000)}`],
    ["keys", `{${Array.from({ length: 700_000 }, (_, index) => `"k${index}":1`).join()}}`],
  ])("such as 10 MB of %s is not parsed at all, which would hold everybody up for seconds", (_what, body) => {
    expect(readHook("Job Hook", Buffer.from(body))).toEqual({
      kind: "unreadable",
      projectId: null,
      problem: "its body has more parts than a pipeline can have",
    });
  });
});
