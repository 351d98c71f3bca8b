import { describe, expect, test } from "vitest";
import { jobDefinition } from "../../../src/ci/definition.ts";
import type { JobStatus } from "./model.ts";
import { nextMoves, pipelineStatus } from "./pipelines.ts";

const stages = ["build", "test", "deploy"];

type Row = [
  name: string,
  stage: string,
  status: JobStatus,
  more?: Parameters<typeof jobDefinition>[0] | object,
];

function progress(rows: Row[]) {
  return rows.map(([name, stage, status, more = {}]) => {
    const definition = jobDefinition({ name, stage, ...more });
    return { definition, status, forgiven: definition.allowFailure === true };
  });
}

function moves(rows: Row[]): string[] {
  const jobs = progress(rows);
  const definition = { stages, jobs: jobs.map((job) => job.definition), notices: [] };
  return nextMoves(definition, jobs).map((move) => `${move.name} ${move.to}`);
}

function need(...names: string[]) {
  return { needs: names.map((job) => ({ job, artifacts: true, optional: false })) };
}

describe("stages", () => {
  test.each<[string, Row[], string[]]>([
    [
      "the first stage starts at once",
      [
        ["a", "build", "created"],
        ["b", "test", "created"],
      ],
      ["a pending"],
    ],
    [
      "the next waits for all",
      [
        ["a", "build", "success"],
        ["b", "build", "running"],
        ["c", "test", "created"],
      ],
      [],
    ],
    [
      "the next starts after success",
      [
        ["a", "build", "success"],
        ["c", "test", "created"],
      ],
      ["c pending"],
    ],
    [
      "a failure skips",
      [
        ["a", "build", "failed"],
        ["c", "test", "created"],
      ],
      ["c skipped"],
    ],
    [
      "a cancel skips",
      [
        ["a", "build", "canceled"],
        ["c", "test", "created"],
      ],
      ["c skipped"],
    ],
    [
      "a forgiven failure does not",
      [
        ["a", "build", "failed", { allowFailure: true }],
        ["c", "test", "created"],
      ],
      ["c pending"],
    ],
    [
      "on_failure runs after a failure",
      [
        ["a", "build", "failed"],
        ["c", "test", "created", { when: "on_failure" }],
      ],
      ["c pending"],
    ],
    [
      "on_failure is skipped after success",
      [
        ["a", "build", "success"],
        ["c", "test", "created", { when: "on_failure" }],
      ],
      ["c skipped"],
    ],
    [
      "always runs after a failure",
      [
        ["a", "build", "failed"],
        ["c", "test", "created", { when: "always" }],
      ],
      ["c pending"],
    ],
    ["manual is not started", [["a", "build", "created", { when: "manual" }]], ["a manual"]],
    [
      "manual does not hold the next stage",
      [
        ["a", "build", "manual", { allowFailure: true }],
        ["c", "test", "created"],
      ],
      ["c pending"],
    ],
    [
      "a manual one that must not fail does",
      [
        ["a", "build", "manual"],
        ["c", "test", "created"],
      ],
      [],
    ],
    [
      "a skipped job does not skip the next stage by itself",
      [
        ["a", "build", "skipped"],
        ["c", "test", "created"],
      ],
      ["c pending"],
    ],
  ])("%s", (_name, rows, expected) => {
    expect(moves(rows)).toEqual(expected);
  });
});

describe("needs", () => {
  test.each<[string, Row[], string[]]>([
    [
      "nothing: starts at once",
      [
        ["a", "build", "running"],
        ["c", "deploy", "created", need()],
      ],
      ["c pending"],
    ],
    [
      "one: does not wait for the stage",
      [
        ["a", "build", "success"],
        ["b", "build", "running"],
        ["c", "test", "created", need("a")],
      ],
      ["c pending"],
    ],
    [
      "waits for the one",
      [
        ["a", "build", "running"],
        ["c", "test", "created", need("a")],
      ],
      [],
    ],
    [
      "failed: skipped",
      [
        ["a", "build", "failed"],
        ["c", "test", "created", need("a")],
      ],
      ["c skipped"],
    ],
    [
      "skipped: skipped",
      [
        ["a", "build", "skipped"],
        ["c", "test", "created", need("a")],
      ],
      ["c skipped"],
    ],
    [
      "manual: skipped",
      [
        ["a", "build", "manual", { allowFailure: true }],
        ["c", "test", "created", need("a")],
      ],
      ["c skipped"],
    ],
  ])("%s", (_name, rows, expected) => {
    expect(moves(rows)).toEqual(expected);
  });
});

test.each<[JobStatus, Row[]]>([
  [
    "running",
    [
      ["a", "build", "running"],
      ["b", "build", "failed"],
    ],
  ],
  ["pending", [["a", "build", "pending"]]],
  [
    "running",
    [
      ["a", "build", "success"],
      ["b", "test", "created"],
    ],
  ],
  ["created", [["a", "build", "created"]]],
  ["running", [["a", "build", "running", { allowFailure: true }]]],
  [
    "running",
    [
      ["a", "build", "success"],
      ["b", "test", "pending"],
    ],
  ],
  [
    "failed",
    [
      ["a", "build", "failed"],
      ["b", "test", "skipped"],
    ],
  ],
  [
    "success",
    [
      ["a", "build", "failed", { allowFailure: true }],
      ["b", "test", "success"],
    ],
  ],
  [
    "canceled",
    [
      ["a", "build", "canceled"],
      ["b", "build", "success"],
    ],
  ],
  [
    "skipped",
    [
      ["a", "build", "skipped"],
      ["b", "build", "manual", { allowFailure: true }],
    ],
  ],
  [
    "manual",
    [
      ["a", "build", "success"],
      ["b", "build", "manual"],
      ["c", "test", "created"],
    ],
  ],
])("a pipeline is %s", (expected, rows) => {
  expect(pipelineStatus(progress(rows))).toBe(expected);
});
