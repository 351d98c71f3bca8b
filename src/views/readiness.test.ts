import { describe, expect, test } from "vitest";
import type { PoolState } from "./ports.ts";
import { type ReadinessFacts, readinessOf } from "./readiness.ts";

const unknown = { accelerator: undefined };
const good: PoolState = { pool: "small", ok: true, problems: [], ...unknown };
const bad: PoolState = {
  pool: "large",
  ok: false,
  problems: [{ problem: "no image", hint: "build it" }],
  ...unknown,
};
const byTag: PoolState = { ...good, pool: "webhook" };

type Asking = NonNullable<ReadinessFacts["claiming"]>[number];
const asked: Asking = { pool: "small", reason: undefined, until: undefined, fatal: false };
const unreachable: Asking = { ...asked, reason: "GitLab does not answer", until: 1_000 };
const refused: Asking = { ...unreachable, reason: "the runner token is wrong", fatal: true };

function look(parts: Partial<ReadinessFacts>) {
  return readinessOf({ mode: "run", pools: [good], problems: [], ...parts });
}

describe("machines", () => {
  const missing = "pool large: no image (build it)";
  test.each<[string, Partial<ReadinessFacts>, boolean, string[]]>([
    ["one pool in order is enough", { pools: [good, bad] }, true, [missing]],
    ["no pool is in order", { pools: [bad] }, false, [missing]],
    ["there is none", { pools: [] }, false, ["there is no pool, and no job by tag is served"]],
    ["all is well", {}, true, []],
  ])("%s", (_what, parts, ready, problems) => {
    expect(look(parts)).toEqual({ ready, problems });
  });
});

test("nothing is ready while GitLab answers nobody, though no poll has failed yet", () => {
  const outage = "GitLab has not answered for 12 s: it answers 502";

  expect(look({ claiming: [asked], outage })).toEqual({ ready: false, problems: [outage] });
});

test.each(["drain", "end"])("in mode %s nothing is claimed", (mode) => {
  expect(look({ mode })).toEqual({
    ready: false,
    problems: ["FireRunner takes no new jobs now: it is draining or ending"],
  });
});

describe("claiming", () => {
  test.each<[string, Partial<ReadinessFacts>, boolean]>([
    ["a pool that is asked for", { claiming: [asked] }, true],
    [
      "one that waits for room is asked for again",
      { claiming: [{ ...asked, reason: "no memory is free" }] },
      true,
    ],
    ["GitLab does not answer", { claiming: [unreachable] }, false],
    ["the token is refused", { claiming: [refused] }, false],
    ["one token of two is refused", { claiming: [refused, asked] }, true],
    ["both are", { claiming: [refused, refused] }, false],
    [
      "the pool that is asked for has no image",
      { pools: [good, bad], claiming: [refused, { ...asked, pool: "large" }] },
      false,
    ],
    ["jobs by tag are found all the same", { pools: [good, byTag], claiming: [refused] }, true],
    [
      "nor are those",
      { pools: [good, byTag], claiming: [refused], canFindTagged: false, problems: ["401"] },
      false,
    ],
    [
      "jobs by tag cannot be found, and pools are asked for",
      { pools: [good, byTag], claiming: [asked], canFindTagged: false, problems: ["401"] },
      true,
    ],
    ["jobs by tag alone", { pools: [byTag] }, true],
    ["jobs by tag alone, and not found", { pools: [byTag], canFindTagged: false }, false],
  ])("%s", (_what, parts, ready) => {
    expect(look(parts).ready).toBe(ready);
  });

  test("why it fails is told", () => {
    expect(look({ claiming: [refused, asked] }).problems).toEqual([
      "pool small: its jobs cannot be asked for: the runner token is wrong",
    ]);
  });
});

test("what is wrong with jobs by tag is told, and does not take pools out of service", () => {
  expect(look({ problems: ["the API token has expired"] })).toEqual({
    ready: true,
    problems: ["the API token has expired"],
  });
});
