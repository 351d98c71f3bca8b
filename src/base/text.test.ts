import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { cutToWidth, visibleWidth, wrapped } from "./text.ts";

describe("a sentence", () => {
  test.each([
    ["stays where it fits", "one two three", 13, ["one two three"]],
    ["goes on two to the right", "one two three", 9, ["one two", "  three"]],
    ["goes on behind its mark", "  → one two three", 12, ["  → one two", "    three"]],
    ["goes on behind its number", "  1. one two", 10, ["  1. one", "     two"]],
    ["keeps columns within a line", "a    b  c", 20, ["a    b  c"]],
    ["may be nothing", "", 20, [""]],
  ])("%s", (_name, text, width, lines) => {
    expect(wrapped(text, width)).toEqual(lines);
  });

  test("begins its other lines below its words, where they have room", () => {
    const text = "server      listens on one and another";

    expect(wrapped(text, 33, 12)).toEqual(["server      listens on one and", "            another"]);
    expect(wrapped(`server      ${"x".repeat(30)} y`, 36, 12, 4)).toEqual([
      "server",
      `    ${"x".repeat(30)} y`,
    ]);
  });

  test.each([
    [
      "an address",
      "! GitLab https://gitlab.example.org/a/very/long/path/without/end is away",
      "/a/very/long/path/without/end ",
    ],
    [
      "a command in quotes",
      "let it be done by “firerunner image build --force --name base”",
      "“firerunner image build --force --name base”",
    ],
    [
      "a command at the end",
      "build it again: firerunner image build --force --name base",
      "firerunner image build --force --name base",
    ],
    [
      "a command that is all of it",
      "  → firerunner image build --force --name base",
      "firerunner image build --force --name base",
    ],
  ])("does not break %s", (_name, text, whole) => {
    expect(`${wrapped(text, 32).join(" \n")} `).toContain(whole);
  });

  test("breaks a quotation that is prose", () => {
    const lines = wrapped(`it says “${"word ".repeat(40)}end”`, 40);

    expect(Math.max(...lines.map(visibleWidth))).toBeLessThanOrEqual(40);
  });

  test("does not leave a mark alone before a word that has room nowhere", () => {
    expect(wrapped(`  → ${"x".repeat(90)} is there`, 80)).toEqual([`  → ${"x".repeat(90)}`, "    is there"]);
  });

  test("loses no word and no colour, and is wider than the screen by single words only", () => {
    const word = fc.string({ minLength: 1, maxLength: 30 }).map((text) => text.replaceAll(/[^a-z!-]/g, "x"));
    fc.assert(
      fc.property(fc.array(word, { minLength: 1 }), fc.integer({ min: 24, max: 80 }), (words, width) => {
        const text = `\u001b[33m${words.join(" ")}\u001b[39m`;
        const lines = wrapped(text, width);
        expect(lines.map((line) => line.trim()).join(" ")).toBe(text);
        expect(lines.filter((line) => visibleWidth(line) > width && line.trim().includes(" "))).toEqual([]);
      }),
    );
  });
});

test.each([
  ["one", 3, "one"],
  ["three", 3, "th…"],
  ["\u001b[31mthree\u001b[39m", 4, "thr…"],
  ["測試測試", 5, "測試…"],
  ["🚀🚀", 2, "…"],
  ["e\u0301e\u0301e", 2, "e\u0301…"],
])("“%s” cut to %i columns is “%s”", (text, width, cut) => {
  expect(cutToWidth(text, width)).toBe(cut);
});
