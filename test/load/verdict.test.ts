import { createTrace, type Job } from "@firerunner/gitlab-stand-in/model";
import { describe, expect, test } from "vitest";
import type { GuestRun } from "../harness/fleet-guests.ts";
import { isGood, judge } from "./verdict.ts";

interface Told {
  readonly status: Job["status"];
  readonly log?: string;
  /** Machines that were given it, and whether its script came to its end there. */
  readonly runs?: readonly (readonly [machineId: string, worked: boolean])[];
  readonly astray?: string;
}

const whole = "begin a\nmiddle\nend\n";

function judged({ status, log = "", runs = [], astray }: Told) {
  const trace = createTrace();
  trace.append(Buffer.from(log), 0);
  const job = { id: 7, status, trace, startedAt: 1_000, endAnswered: false } as unknown as Job;
  const given: GuestRun[] = runs.map(([machineId, worked]) => ({
    ...{ jobId: 7, machineId, givenAt: 1 },
    workedAt: worked ? 2 : undefined,
  }));
  const verdict = judge({
    ...{ jobs: [job], runs: given, firstWords: "begin ", lastWords: "end\n", left: [] },
    astray: () => astray,
  });
  const found = Object.entries(verdict).filter(([, list]) => list.length > 0);
  return { found: found.map(([name]) => name), isGood: isGood(verdict) };
}

describe("a job is", () => {
  test.each<[string, Told, string[], boolean]>([
    ["well", { status: "success", log: whole, runs: [["a", true]] }, [], true],
    ["well though it failed before its script began", { status: "failed" }, [], true],
    [
      "lost while it has no end",
      { status: "running", log: "begin a", runs: [["a", false]] },
      ["lost"],
      false,
    ],
    ["lost while it waits", { status: "pending" }, ["lost"], false],
    [
      "lost when half of its log is",
      { status: "success", log: "begin a", runs: [["a", true]] },
      ["lost"],
      false,
    ],
    [
      "doubled when its script began twice",
      { status: "failed", log: "begin a\nbegin b\n", runs: [["a", false]] },
      ["doubled"],
      false,
    ],
    [
      "doubled when two machines had it",
      {
        status: "success",
        log: whole,
        runs: [
          ["a", true],
          ["b", false],
        ],
      },
      ["doubled"],
      false,
    ],
    [
      "untrue when it succeeded by itself",
      { status: "success", log: whole, runs: [["a", false]] },
      ["untrue"],
      false,
    ],
    ["unheard when its claim went astray", { status: "running", astray: "a kill" }, ["unheard"], true],
    [
      "lost all the same when it was heard of since",
      { status: "running", log: "FireRunner: …", astray: "a kill" },
      ["lost"],
      false,
    ],
    [
      "lost all the same when a machine has it",
      { status: "running", runs: [["a", false]], astray: "a kill" },
      ["lost"],
      false,
    ],
    ["lost when nothing was in the way of its claim", { status: "running" }, ["lost"], false],
  ])("%s", (_, told, found, good) => {
    expect(judged(told)).toEqual({ found, isGood: good });
  });
});
