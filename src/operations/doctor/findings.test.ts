import { describe, expect, test } from "vitest";
import { FireRunnerError } from "../../base/errors.ts";
import type { Finding } from "./findings.ts";
import { answer, mergeFindings, sentence } from "./findings.ts";

const { signal } = new AbortController();
const ok: Finding = { level: "ok", message: "good" };
const warn: Finding = { level: "warn", message: "dear", hint: "Save." };
const fail: Finding = { level: "fail", message: "gone", hint: "Search." };

describe("several findings as one", () => {
  test.each<[readonly Finding[], Finding]>([
    [[ok, { level: "ok", message: "better" }], { level: "ok", message: "good; better" }],
    [[ok, warn], warn],
    [[warn, ok, fail], { level: "fail", message: "dear; gone", hint: "Save. Search." }],
    [[warn, { ...warn, message: "far" }], { level: "warn", message: "dear; far", hint: "Save." }],
  ])("%j", (findings, merged) => {
    expect(mergeFindings(findings)).toEqual(merged);
  });
});

describe("a question without an answer", () => {
  test("is a finding, with what the error advises", async () => {
    const run = answer(async () => {
      throw new FireRunnerError("x", "nobody answers", { hint: "Call." });
    });

    expect(await run(signal)).toEqual({ level: "fail", message: "nobody answers", hint: "Call." });
  });

  test("is only a warning where jobs run all the same", async () => {
    const run = answer(async () => {
      throw new Error("nobody answers");
    }, "warn");

    expect(await run(signal)).toEqual({ level: "warn", message: "nobody answers" });
  });
});

test.each([
  ["build it: firerunner image build", "Build it: firerunner image build"],
  ["firerunner image push REGISTRY/NAME", "firerunner image push REGISTRY/NAME"],
  ["proxy.url names it", "proxy.url names it."],
  ["check the “clock”.", "Check the “clock”."],
])("the advice “%s” is printed as “%s”", (hint, printed) => {
  expect(sentence(hint)).toBe(printed);
});
