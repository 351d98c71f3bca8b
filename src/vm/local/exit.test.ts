import { expect, test } from "vitest";
import type { ExitKind } from "../driver.ts";
import { exitWithMemory } from "./machine-directory.ts";

test.each<[ExitKind, number | undefined, number | undefined, ExitKind]>([
  ["killed", 3, 4, "host-memory"],
  ["killed", 3, 3, "killed"],
  ["killed", undefined, 4, "killed"],
  ["killed", 3, undefined, "killed"],
  ["crash", 3, 4, "crash"],
  ["orderly", 3, 4, "orderly"],
])("%s, with %s kills of the kernel before and %s after, is %s", (exit, before, after, told) => {
  expect(exitWithMemory(exit, before, after)).toBe(told);
});
