import { describe, expect, test } from "vitest";
import { loadPipeline, parsePipeline } from "./parse.ts";
import { type Push, plainPush } from "./push.ts";

/** Jobs of the pipeline by name, with the part that a case is about. */
function names(text: string, push = plainPush): string[] {
  return parsePipeline(text, push).jobs.map((job) => job.name);
}

function job(text: string, name = "job") {
  return parsePipeline(text).jobs.find((each) => each.name === name);
}

describe("what GitLab takes", () => {
  test("of a key that is given twice, the last", () => {
    expect(job("job:\n  script: first\n  script: second\n")?.script).toEqual(["second"]);
  });

  test("a variable that is only described is empty", () => {
    expect(job('variables: { ONLY: { description: "text" } }\njob: { script: x }')?.variables).toEqual({
      ONLY: "",
    });
  });

  test("dependencies on a job of the same stage, and on one that this pipeline lacks", () => {
    const text =
      "a: { script: x }\nb: { script: x, rules: [{ when: never }] }\njob: { script: x, dependencies: [a, b] }";

    expect(job(text)?.dependencies).toEqual(["a"]);
  });

  test("a header, with inputs that have defaults", () => {
    const text = `spec:
  inputs:
    stage: { default: build }
    list: { type: array, default: [one, two] }
    name: { default: linux }
---
"job-$[[ inputs.name ]]":
  stage: $[[ inputs.stage ]]
  script: $[[ inputs.list ]]
  variables: { SHORT: "$[[ inputs.name | truncate(0,3) ]]-$[[ inputs.stage ]]" }
`;

    expect(job(text, "job-linux")).toMatchObject({
      stage: "build",
      script: ["one", "two"],
      variables: { SHORT: "lin-build" },
    });
  });

  test("an input without a value is refused with the place", () => {
    expect(() => parsePipeline("spec: { inputs: { a: } }\n---\njob:\n  script: $[[ inputs.a ]]")).toThrow(
      "“inputs.a” has no value",
    );
  });

  test("when: delayed, which does not wait here", () => {
    const text = "job: { script: x, when: delayed, start_in: 30 minutes }";

    expect(job(text)?.when).toBe("on_success");
    expect(parsePipeline(text).notices[0]?.message).toContain("is not waited for");
  });

  test.each(["needs:", "needs: null", "image:", "retry: ~"])("a keyword without a value: “%s”", (keyword) => {
    expect(job(`job:\n  script: x\n  ${keyword}\n`)?.needs).toBeUndefined();
  });

  test("needs of another pipeline and of another project", () => {
    const text = `a: { script: x }
job:
  script: x
  needs: [a, { pipeline: $UP, job: up }, { project: other/one, job: made, ref: main, artifacts: true }]`;

    expect(job(text)?.needs?.map((need) => need.job)).toEqual(["a"]);
    expect(parsePipeline(text).notices.map((notice) => notice.message)).toEqual([
      "a need of “job” is a job of another pipeline, whose artifacts are not here",
      "a need of “job” is a job of another pipeline, whose artifacts are not here",
    ]);
  });

  test("lists within lists where !reference and anchors make them", () => {
    const text = `.t: { tags: [a, b], paths: [p, q] }
job: { script: x, tags: [!reference [.t, tags], c], artifacts: { paths: [!reference [.t, paths]] } }`;

    expect(job(text)).toMatchObject({ tags: ["a", "b", "c"], artifacts: { paths: ["p", "q"] } });
  });

  test("inherit, of variables and of defaults", () => {
    const text = `default: { before_script: [setup], tags: [all] }
variables: { A: 1, B: 2 }
job: { script: x, inherit: { default: [tags], variables: [B] } }
none: { script: x, inherit: { default: false, variables: false } }`;

    expect(job(text)).toMatchObject({ script: ["x"], tags: ["all"], variables: { B: "2" } });
    expect(job(text, "none")).toMatchObject({ script: ["x"], tags: [], variables: {} });
  });
});

describe("a job that asks for what was left out", () => {
  const include = "include: { template: Security/SAST.gitlab-ci.yml }\n";

  test.each([
    ["by extends", "job: { extends: .from-there, script: x }", /it needs “.from-there”, which may stand in/],
    [
      "by !reference",
      "job: { script: [!reference [.from-there, script]] }",
      /it needs \[\.from-there, script\]/,
    ],
    ["for its script", "job: { stage: test, variables: { A: 1 } }", /it has no script, which may stand in/],
  ])("is named and left out: %s", (_name, text, message) => {
    const { jobs, notices } = parsePipeline(`${include}${text}\nother: { script: x, needs: [job] }`);

    expect(jobs.map((each) => [each.name, each.needs])).toEqual([["other", []]]);
    expect(notices.map((each) => each.message).join("\n")).toMatch(message);
    expect(notices.map((each) => each.message).join("\n")).toContain("Security/SAST.gitlab-ci.yml");
  });

  test("without any include the file is refused, with the true cause", () => {
    expect(() => parsePipeline("job: { extends: .nowhere, script: x }")).toThrow("“job” extends “.nowhere”");
  });
});

test.each([
  ["0755", "493"],
  ["0o755", "0o755"],
  ["0888", "0888"],
  ["yes", "true"],
  ["Off", "false"],
  ["y", "y"],
  ["12:30:45", "45045"],
  ["12:30", "45000"],
  ["1_000", "1000"],
  ["0x1F", "31"],
  ["0b101", "5"],
  ["1.10", "1.1"],
  ["1.0", "1.0"],
  [".5", "0.5"],
  ["1.2.3", "1.2.3"],
  ["1e3", "1e3"],
  ["12345678901234567890", "12345678901234567890"],
  ['"0755"', "0755"],
  ["~", ""],
  ["null", ""],
  ["2024-1", "2024-1"],
])("a variable %s is %j, as Ruby reads YAML", (given, value) => {
  expect(job(`job: { script: x, variables: { A: ${given} } }`)?.variables).toEqual({ A: value });
});

test("a date is refused, as GitLab refuses it", () => {
  expect(() => parsePipeline("variables: { DAY: 2024-02-03 }\njob: { script: x }")).toThrow(
    "line 1: not valid YAML: GitLab does not take a date here: put 2024-02-03 in quotes",
  );
});

describe("rules, only and except for a push to the default branch", () => {
  const push: Push = {
    ...plainPush,
    variables: {
      ...plainPush.variables,
      EMPTY: "",
      NAME: "deploy-42",
      PATTERN: "/^deploy-/",
      NESTED: "$NAME",
    },
    files: ["Dockerfile", "src/a.ts", ".github/x.yml"],
    changes: ["src/a.ts"],
  };

  test.each([
    ["rules: [{ if: $CI_COMMIT_TAG }, { when: never }]", false],
    ["rules: [{ if: $CI_COMMIT_TAG }]", false],
    ["rules: [{ if: $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH }]", true],
    ["rules: [{ if: '$CI_PIPELINE_SOURCE == \"merge_request_event\"' }]", false],
    ["rules: [{ if: '$CI_PIPELINE_SOURCE == \"push\" && $CI_COMMIT_BRANCH =~ /^ma/' }]", true],
    ["rules: [{ if: '$NAME =~ $PATTERN' }]", true],
    ["rules: [{ if: '$NESTED == \"deploy-42\"' }]", true],
    ["rules: [{ if: '$NAME !~ /^DEPLOY/i' }]", false],
    ["rules: [{ if: '$MISSING == null && $EMPTY != null' }]", true],
    ["rules: [{ if: $EMPTY }]", false],
    ["rules: [{ if: '($MISSING || $NAME) && $CI' }]", true],
    ["rules: [{ if: '$CI || $MISSING && $MISSING' }]", true],
    ["rules: [{ if: '$OWN == \"mine\"' }]\n  variables: { OWN: mine }", true],
    ["rules: [{ changes: [src/**/*] }]", true],
    ["rules: [{ changes: { paths: [docs/*], compare_to: main } }]", false],
    ["rules: [{ exists: [Dockerfile] }]", true],
    ["rules: [{ exists: ['**/*.yml'] }]", true],
    ["rules: [{ exists: ['*.go'] }]", false],
    ["rules: [[{ if: $MISSING }], { when: always }]", true],
    ["only: [tags]", false],
    ["only: [branches]", true],
    ["only: [main]", true],
    ["only: [/^release/, schedules, merge_requests]", false],
    ["only: [/^MA/i]", true],
    ["only: [main@group/project]", true],
    ["only: [main@other/project]", false],
    ["only: { variables: [$MISSING] }", false],
    ["only: { refs: [main], changes: [docs/*] }", false],
    ["only: { kubernetes: active }", false],
    ["except: [main]", false],
    ["except: [tags]", true],
    ["except: { changes: [src/*] }", false],
    ["except: { variables: [$MISSING, '$NAME == \"no\"'] }", true],
  ])("%s", (keywords, isThere) => {
    const text = `job:\n  script: x\n  ${keywords}\nother: { script: x }\n`;

    expect(names(text, push).includes("job")).toBe(isThere);
    expect(parsePipeline(text, push).notStarted ?? []).toEqual(isThere ? [] : ["job"]);
  });

  test("a rule says how the job runs", () => {
    const text = `job:
  script: x
  needs: [other]
  rules:
    - { if: $CI_COMMIT_TAG, when: always }
    - { when: manual, allow_failure: true, variables: { A: 2 }, needs: [] }
  variables: { A: 1, B: 1 }
other: { script: x }`;

    expect(job(text)).toMatchObject({
      when: "manual",
      allowFailure: true,
      variables: { A: "2", B: "1" },
      needs: [],
    });
  });

  test("a manual job among rules holds up what follows, one without does not", () => {
    expect(job("job: { script: x, rules: [{ when: manual }] }")?.allowFailure).toBe(false);
    expect(job("job: { script: x, when: manual }")?.allowFailure).toBe(true);
  });

  test("a need of a job that the rules leave out is refused as in GitLab, unless it is optional", () => {
    const of = (need: string) =>
      `a: { script: x, rules: [{ when: never }] }\nb: { script: x, needs: [${need}] }`;

    expect(() => parsePipeline(of("a"))).toThrow("“b” needs “a”, which is not in this pipeline");
    expect(names(of("{ job: a, optional: true }"))).toEqual(["b"]);
  });

  test.each(["$A ==", "== $A", "$A == && $B", "($A", "$A $B", "A == 1", ""])(
    "“%s” is no expression, which is said with its line",
    (expression) => {
      const text = `job:\n  script: x\n  rules:\n    - if: '${expression}'\n`;

      expect(() => parsePipeline(text)).toThrow("line 3: “");
    },
  );

  test("workflow decides on the whole pipeline, and sets variables", () => {
    const rules = (rule: string) => `workflow: { rules: [${rule}] }\njob: { script: x }`;

    expect(parsePipeline(rules("{ if: $CI_COMMIT_TAG }"))).toMatchObject({
      jobs: [],
      whyEmpty: expect.stringContaining("workflow"),
    });
    expect(job(rules("{ when: always, variables: { A: 1 } }"))?.variables).toEqual({ A: "1" });
  });

  test("references among the global keywords are followed, or left out by name", () => {
    const text = (name: string) =>
      `include: https://example.com/x.yml
.r: { rules: [{ when: never }], v: { A: 1 } }
workflow: { rules: !reference [${name}, rules] }
variables: !reference [.r, v]
job: { script: x }`;

    expect(parsePipeline(text(".r")).jobs).toEqual([]);
    expect(parsePipeline(text(".s")).jobs[0]?.variables).toEqual({ A: "1" });
    expect(parsePipeline(text(".s")).notices.at(-1)?.message).toContain(
      "“workflow” is left out: it needs [.s, rules]",
    );
  });

  test("a pipeline whose jobs all stay out says why it is empty", () => {
    expect(parsePipeline("job: { script: x, only: [tags] }")).toMatchObject({
      jobs: [],
      notStarted: ["job"],
      whyEmpty: "the rules of its jobs start none of them for a push to this branch",
    });
  });
});

describe("parallel", () => {
  test("a number makes numbered jobs, and who needs the job needs all of them", () => {
    const { jobs } = parsePipeline("build: { script: x, parallel: 2 }\njob: { script: x, needs: [build] }");

    expect(jobs.map((each) => each.name)).toEqual(["build 1/2", "build 2/2", "job"]);
    expect(jobs[1]?.variables).toEqual({ CI_NODE_INDEX: "2", CI_NODE_TOTAL: "2" });
    expect(jobs[2]?.needs?.map((need) => need.job)).toEqual(["build 1/2", "build 2/2"]);
  });

  const matrix = `build:
  script: x
  parallel:
    matrix:
      - { ARCH: [x86_64, arm64], MODE: fast }
      - { ARCH: riscv }
`;

  test("a matrix makes a job for each combination", () => {
    expect(names(matrix)).toEqual(["build: [x86_64, fast]", "build: [arm64, fast]", "build: [riscv]"]);
    expect(job(matrix, "build: [riscv]")?.variables).toMatchObject({ ARCH: "riscv", CI_NODE_INDEX: "3" });
  });

  test.each([
    ['["build: [riscv]"]', ["build: [riscv]"]],
    ["[{ job: build, parallel: { matrix: [{ ARCH: arm64, MODE: fast }] } }]", ["build: [arm64, fast]"]],
    ["[build]", ["build: [x86_64, fast]", "build: [arm64, fast]", "build: [riscv]"]],
  ])("needs: %s", (needs, expected) => {
    expect(job(`${matrix}job: { script: x, needs: ${needs} }`)?.needs?.map((need) => need.job)).toEqual(
      expected,
    );
  });

  test("each job of a matrix is judged by its own variables", () => {
    const text = `${matrix}  rules: [{ if: '$ARCH == "riscv"' }]\n`;

    expect(names(text)).toEqual(["build: [riscv]"]);
  });

  test.each([
    "0",
    "201",
    "many",
    "{ matrix: [] }",
    "{ matrix: [{ A: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15], B: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14] }] }",
  ])("parallel: %s is refused", (parallel) => {
    expect(() => parsePipeline(`job: { script: x, parallel: ${parallel} }`)).toThrow(
      "must be a number from 1 to 200",
    );
  });
});

describe("include: local", () => {
  const files: Readonly<Record<string, string>> = {
    "ci/base.yml":
      "variables: { A: base, B: base }\n.job: { script: [from-base] }\nonly-base: { script: x }\n",
    "ci/more.yml": "include: /ci/base.yml\nvariables: { A: more }\n",
    "ci/part/a.yml": "a: { script: a }\n",
    "ci/part/b.yml": "b: { script: b }\n",
    "ci/bad.yml": "bad:\n  script: x\n  retry: 9\n",
    "ci/round.yml": "include: ci/round.yml\n",
    "ci/in.yml": 'spec: { inputs: { name: } }\n---\n"$[[ inputs.name ]]": { script: x }\n',
  };
  const push = { ...plainPush, files: Object.keys(files) };
  const load = (text: string) => loadPipeline(text, push, async (path) => files[path]);

  test("merges files in their order, the including file over them", async () => {
    const { jobs } = await load(
      "include: [{ local: ci/more.yml }]\nvariables: { B: own }\njob: { extends: .job }",
    );

    expect(jobs.map((each) => each.name)).toEqual(["only-base", "job"]);
    expect(jobs[1]).toMatchObject({ script: ["from-base"], variables: { A: "more", B: "own" } });
  });

  test("takes patterns, variables, rules and inputs", async () => {
    const { jobs } = await load(`variables: { WANT: "yes" }
include:
  - local: ci/part/*.yml
    rules: [{ if: $CI_COMMIT_TAG }]
  - { local: 'ci/$FILE.yml', rules: [{ exists: [nothing], when: never }, { if: '$WANT == "yes"', when: never }] }
  - { local: ci/in.yml, inputs: { name: given } }
`);

    expect(jobs.map((each) => each.name)).toEqual(["given"]);
    const all = await load("include: [/ci/**/b.yml, 'ci/p*/a.yml']");
    expect(all.jobs.map((each) => each.name)).toEqual(["b", "a"]);
  });

  test("what is elsewhere is named and left out", async () => {
    const { jobs, notices } = await load(`include:
  - https://example.com/ci.yml
  - { project: group/ci, file: [one.yml, two.yml] }
  - { component: example.com/c@1 }
job: { script: x }`);

    expect(jobs).toHaveLength(1);
    expect(
      notices.map((each) =>
        each.message.replace(" is on a server that the stand-in does not ask, and left out", ""),
      ),
    ).toEqual([
      "“include: https://example.com/ci.yml”",
      "“include: project: group/ci one.yml, two.yml”",
      "“include: component: example.com/c@1”",
    ]);
  });

  test("a mistake is said with the file it stands in", async () => {
    await expect(load("include: ci/bad.yml")).rejects.toThrow("ci/bad.yml, line 3: “bad: retry");
    await expect(load("include: ci/gone.yml")).rejects.toThrow(
      ".gitlab-ci.yml, line 1: the included file “ci/gone.yml”",
    );
    await expect(load("include: ci/round.yml")).rejects.toThrow("do they include each other?");
    await expect(load("include: { local: ci/in.yml }")).rejects.toThrow("“inputs.name” has no value");
  });
});
