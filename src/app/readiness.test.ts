import { expect, test } from "vitest";
import { readinessOf } from "./readiness.ts";

const unknown = { accelerator: undefined, checkedAt: undefined, runnerInfo: undefined };
const good = { pool: "small", ok: true, problems: [], ...unknown };
const bad = { pool: "large", ok: false, problems: [{ problem: "no image", hint: "build it" }], ...unknown };

test.each([
  ["run", [good], true, []],
  ["run", [good, bad], true, ["pool large: no image (build it)"]],
  ["run", [bad], false, ["pool large: no image (build it)"]],
  ["run", [], false, []],
  ["drain", [good], false, ["FireRunner takes no new jobs now: it is draining or ending"]],
])("in mode %s", (mode, pools, ready, problems) => {
  expect(readinessOf({ mode, pools, problems: [] })).toEqual({ ready, problems });
});

test("what is wrong with jobs by tag is told, and does not take pools out of service", () => {
  expect(readinessOf({ mode: "run", pools: [good], problems: ["the API token has expired"] })).toEqual({
    ready: true,
    problems: ["the API token has expired"],
  });
});
