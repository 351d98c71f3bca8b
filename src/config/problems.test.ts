import { describe, expect, test } from "vitest";
import { editDistance, nearest } from "./problems.ts";

describe("nearest", () => {
  test.each([
    ["concurency", "concurrency"],
    ["dirver", "driver"],
    ["IMAGE", "image"],
    ["size", "size"],
  ])("%s means %s", (word, meant) => {
    expect(nearest(word, ["concurrency", "driver", "image", "size"])).toBe(meant);
  });

  test("offers nothing when nothing is close", () => {
    expect(nearest("webhook", ["image", "size"])).toBeUndefined();
    expect(nearest("x", [])).toBeUndefined();
  });
});

test("counts insertions, deletions, replacements and swaps", () => {
  expect(editDistance("", "abc")).toBe(3);
  expect(editDistance("abc", "")).toBe(3);
  expect(editDistance("abc", "axc")).toBe(1);
  expect(editDistance("abcd", "acbd")).toBe(1);
});
