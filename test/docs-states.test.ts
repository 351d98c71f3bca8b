import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { renderDiagram, withDiagrams } from "../scripts/docs-states.ts";

describe("state diagrams", () => {
  test("ARCHITECTURE.md shows the tables as they are (else: npm run docs)", () => {
    const page = readFileSync(join(import.meta.dirname, "../ARCHITECTURE.md"), "utf8");

    expect(page).toBe(withDiagrams(page));
  });

  test("a table becomes a diagram with its first state, every move and its ends", () => {
    const diagram = renderDiagram({ asleep: ["awake"], awake: ["asleep", "gone"], gone: [] });

    expect(diagram.split("\n").map((line) => line.trim())).toEqual([
      "```mermaid",
      "stateDiagram-v2",
      "[*] --> asleep",
      "asleep --> awake",
      "awake --> asleep",
      "awake --> gone",
      "gone --> [*]",
      "```",
    ]);
  });

  test("only the marked block changes, and only once", () => {
    const fresh = withDiagrams("# Title\n\nText.\n");
    const outdated = fresh.replace("claimed --> starting", "claimed --> nowhere");

    expect(fresh.startsWith("# Title\n\nText.\n\n<!-- states:")).toBe(true);
    expect(withDiagrams(outdated)).toBe(fresh);
    expect(withDiagrams(`${fresh}\nMore text.\n`)).toBe(`${fresh}\nMore text.\n`);
  });
});
