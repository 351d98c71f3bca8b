import { describe, expect, test } from "vitest";
import { parsePipeline } from "./parse.ts";

function jobOf(text: string, name = "job") {
  const job = parsePipeline(text).jobs.find((each) => each.name === name);
  if (!job) throw new Error(`no job ${name}`);
  return job;
}

describe("a job", () => {
  test("has GitLab's defaults", () => {
    expect(jobOf("job: { script: echo hi }")).toEqual({
      name: "job",
      stage: "test",
      script: ["echo hi"],
      afterScript: [],
      variables: {},
      tags: [],
      allowFailure: false,
      when: "on_success",
      timeoutSeconds: 3_600,
      retry: { max: 0, when: ["always"] },
    });
  });

  test("takes before_script, after_script, image and tags from default, and its own over them", () => {
    const text = `
default:
  before_script: [one]
  after_script: [four]
  image: debian:12
  tags: [vm]
job:
  script: [two]
own:
  before_script: []
  tags: [other]
  script: [three]
`;
    expect(jobOf(text)).toMatchObject({
      script: ["one", "two"],
      afterScript: ["four"],
      image: { name: "debian:12" },
      tags: ["vm"],
    });
    expect(jobOf(text, "own")).toMatchObject({ script: ["three"], tags: ["other"] });
  });

  test("has its image and services with all that they can say", () => {
    const text = `
services: [redis:7]
job:
  script: test
  image: { name: "node:$V", entrypoint: "", pull_policy: if-not-present, docker: { platform: linux/amd64, user: 1000 } }
  services:
    - postgres:16
    - name: docker:dind
      alias: "docker, engine"
      command: [dockerd, --tls=false]
      entrypoint: [sh]
      variables: { A: 1 }
      pull_policy: [always, never]
other: { script: test }
bare: { script: test, services: [] }
`;
    expect(jobOf(text)).toMatchObject({
      image: {
        name: "node:$V",
        entrypoint: [""],
        pullPolicy: ["if-not-present"],
        docker: { platform: "linux/amd64", user: "1000" },
      },
      services: [
        { name: "postgres:16" },
        {
          name: "docker:dind",
          alias: "docker, engine",
          command: ["dockerd", "--tls=false"],
          entrypoint: ["sh"],
          variables: { A: "1" },
          pullPolicy: ["always", "never"],
        },
      ],
    });
    expect(jobOf(text, "other").services).toMatchObject([{ name: "redis:7" }]);
    expect(jobOf(text, "bare").services).toEqual([]);
  });

  test("takes global keywords of the old kind, and its variables over the global ones", () => {
    const text = `
before_script: [setup]
variables: { A: 1, B: { value: two, description: said } }
job: { script: go, variables: { A: mine, C: true } }
`;
    expect(jobOf(text)).toMatchObject({
      script: ["setup", "go"],
      variables: { A: "mine", B: "two", C: "true" },
    });
  });

  test.each([
    ["timeout: 90s", { timeoutSeconds: 90 }],
    ["timeout: 1h 30m", { timeoutSeconds: 5_400 }],
    ["retry: 2", { retry: { max: 2, when: ["always"] } }],
    [
      "retry: { max: 1, when: runner_system_failure }",
      { retry: { max: 1, when: ["runner_system_failure"] } },
    ],
    ["allow_failure: true", { allowFailure: true }],
    ["allow_failure: { exit_codes: [3, 4] }", { allowFailure: { exitCodes: [3, 4] } }],
    ["when: manual", { when: "manual", allowFailure: true }],
    ["when: on_failure", { when: "on_failure" }],
    ["image: { name: alpine, entrypoint: [sh] }", { image: { name: "alpine", entrypoint: ["sh"] } }],
    ["needs: []", { needs: [] }],
    [
      "artifacts: { paths: [out/], exclude: [out/tmp], expire_in: 1 week, when: always, name: n, untracked: true }",
      {
        artifacts: {
          paths: ["out/"],
          exclude: ["out/tmp"],
          expireIn: "1 week",
          when: "always",
          name: "n",
          untracked: true,
        },
      },
    ],
  ])("reads “%s”", (keyword, expected) => {
    expect(jobOf(`job:\n  script: x\n  ${keyword}\n`)).toMatchObject(expected);
  });
});

describe("reuse", () => {
  test("extends merges mappings, replaces lists, goes several levels and takes several parents", () => {
    const text = `
.a: { variables: { A: 1, B: 1 }, tags: [a] }
.b: { extends: .a, variables: { B: 2 }, script: [b] }
.c: { variables: { C: 3 }, tags: [c] }
job: { extends: [.b, .c], variables: { D: 4 } }
`;
    expect(jobOf(text)).toMatchObject({
      variables: { A: "1", B: "2", C: "3", D: "4" },
      tags: ["c"],
      script: ["b"],
    });
  });

  test("anchors, merge keys and nested lists are worked in", () => {
    const text = `
.setup: &setup [one, two]
.vars: &vars { variables: { A: x } }
job:
  <<: *vars
  script:
    - *setup
    - three
`;
    expect(jobOf(text)).toMatchObject({ script: ["one", "two", "three"], variables: { A: "x" } });
  });

  test("!reference takes one part of another job, also through a second reference", () => {
    const text = `
.inner: { script: [deep] }
.setup: { script: [!reference [.inner, script], shallow], variables: { A: ref } }
job:
  variables: !reference [.setup, variables]
  script:
    - !reference [.setup, script]
    - last
`;
    expect(jobOf(text)).toMatchObject({ script: ["deep", "shallow", "last"], variables: { A: "ref" } });
  });

  test("hidden jobs are no jobs", () => {
    expect(parsePipeline(".hidden: { script: x }\njob: { script: y }").jobs.map((job) => job.name)).toEqual([
      "job",
    ]);
  });
});

describe("what the stand-in does not know", () => {
  test("is named with job and line, and left out", () => {
    const text = `include: other.yml
job:
  script: x
  coverage: /x/
  artifacts:
    paths: [a]
    reports: { junit: r.xml }
default:
  interruptible: true
`;
    const { notices, jobs } = parsePipeline(text);

    expect(jobs).toHaveLength(1);
    expect(notices.map(({ line, job }) => [line, job])).toEqual([
      [1, undefined],
      [9, undefined],
      [4, "job"],
      [7, "job"],
    ]);
    expect(notices[2]?.message).toBe("“coverage” is not known to the stand-in and left out");
  });

  test("takes the job with it when that would be another job without", () => {
    const { notices, jobs } = parsePipeline("down: { trigger: other/project }\njob: { script: x }");

    expect(jobs.map((job) => job.name)).toEqual(["job"]);
    expect(notices[0]?.message).toBe("“down” is left out: the stand-in cannot run “trigger”");
  });
});

test.each([
  ["job: {script: [x", 1, "not valid YAML"],
  ["- a\n- b", 1, "mapping"],
  ["a: 1\n", 1, "neither a keyword nor a job"],
  ["job:\n  stage: test\n", 1, "has no script"],
  ["job:\n  script: x\n  stage: other\n", 3, "none of build, test, deploy"],
  ["stages: one\njob: {script: x}", 1, "stages"],
  ["job:\n  script:\n    - echo: hi\n", 2, "list of strings"],
  ["job:\n  script: x\n  extends: .missing\n", 3, "“.missing”, which is not in this file"],
  [".a: {extends: .b}\n.b: {extends: .a}\njob:\n  script: x\n  extends: .a\n", 5, "extends itself"],
  ["job:\n  script: x\n  needs: [missing]\n", 3, "needs “missing”"],
  ["a:\n  script: x\n  needs: [b]\nb:\n  script: x\n  needs: [a]\n", 3, "circle: a → b → a"],
  [
    "stages: [one, two]\na:\n  stage: one\n  script: x\n  dependencies: [b]\nb: {script: x, stage: two}",
    5,
    "later stage",
  ],
  [
    "stages: [one, two]\na:\n  stage: one\n  script: x\n  needs: [b]\nb: {script: x, stage: two}",
    5,
    "later stage",
  ],
  ["job:\n  script: x\n  dependencies: [missing]\n", 3, "depends on “missing”"],
  ["job:\n  script: x\n  timeout: soon\n", 3, "not a time"],
  ["job:\n  script: x\n  retry: 5\n", 3, "retry"],
  ["job:\n  script: [!reference [.missing, script]]\n", 1, "names nothing"],
  ["job:\n  script: x\n  when: never\n", 3, "when"],
])("refuses %j at line %i", (text, line, message) => {
  const refused = () => parsePipeline(text);

  expect(refused).toThrow(message);
  expect(refused).toThrow(`line ${line}:`);
});

test("an optional need of a missing job is no error", () => {
  expect(jobOf("job: { script: x, needs: [{ job: missing, optional: true }] }").needs).toEqual([]);
});
