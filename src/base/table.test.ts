import { styleText } from "node:util";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Column, formatTable } from "./table.ts";

const columns: Column[] = [
  { title: "JOB" },
  { title: "POOL", spare: 1 },
  { title: "NAME", cut: 6 },
  { title: "AGO", spare: 2 },
];
const rows = [
  ["1", "small", "compile the whole thing", "3 s ago"],
  ["22", "large", "lint", "1 m ago"],
];

describe("a table", () => {
  test("is as wide as its cells where there is room", () => {
    expect(formatTable(columns, rows, 80)).toEqual([
      "JOB  POOL   NAME                     AGO",
      "1    small  compile the whole thing  3 s ago",
      "22   large  lint                     1 m ago",
    ]);
  });

  test("cuts cells first, then leaves columns out in their order", () => {
    expect(formatTable(columns, rows, 30)).toEqual([
      "JOB  POOL   NAME       AGO",
      "1    small  compile …  3 s ago",
      "22   large  lint       1 m ago",
    ]);
    expect(formatTable(columns, rows, 20)).toEqual([
      "JOB  POOL   NAME",
      "1    small  compile…",
      "22   large  lint",
    ]);
    expect(formatTable(columns, rows, 12)).toEqual(["JOB  NAME", "1    compil…", "22   lint"]);
  });

  test("moves sentences below their row, whole", () => {
    const lines = formatTable(
      [...columns, { title: "IN THE WAY", below: true }],
      rows.map((row, at) => [...row, at === 0 ? "the pool's limit of 10 jobs at one time is reached" : ""]),
      50,
    );

    expect(lines).toEqual([
      "JOB  POOL   NAME                     AGO",
      "1    small  compile the whole thing  3 s ago",
      "    the pool's limit of 10 jobs at one time is",
      "    reached",
      "22   large  lint                     1 m ago",
    ]);
  });

  test("does not count colours", () => {
    const red = styleText("red", "22", { validateStream: false });

    expect(formatTable([{ title: "A" }, { title: "B" }], [[red, "x"]], 80)).toEqual(["A   B", `${red}  x`]);
  });

  test("cuts what must stay only when nothing else helps, and the first column last", () => {
    const ids = [{ title: "ID" }, { title: "A" }, { title: "B" }];
    const [, row = ""] = formatTable(ids, [["r-abcd2345", "x".repeat(90), "y".repeat(90)]], 40);

    expect(row).toMatch(/^r-abcd2345 {2}x+… {2}y+…$/);
    expect(row).toHaveLength(40);
  });

  test("counts a wide letter twice, and cuts none in two", () => {
    const cells = [{ title: "NAME", cut: 6 }, { title: "B" }];

    expect(
      formatTable(
        cells,
        [
          ["測試測試測試測試", "x"],
          ["🚀 go", "y"],
        ],
        12,
      ),
    ).toEqual(["NAME       B", "測試測試…  x", "🚀 go      y"]);
  });

  test("has no lines without rows", () => {
    expect(formatTable(columns, [], 80)).toEqual([]);
  });

  test("keeps to 80 columns whatever its cells hold, and loses no row", () => {
    const cell = fc.string({ maxLength: 120 }).map((text) => text.replaceAll(/[^ -~]/g, "x"));
    const sentence: Column = { title: "REASON", below: true };
    fc.assert(
      fc.property(fc.array(fc.tuple(cell, cell, cell, cell), { minLength: 1, maxLength: 5 }), (given) => {
        const cells = given.map(([a, b, c, d], at) => [String(at), a, b, c, d]);
        const table = formatTable(
          [
            { title: "ID" },
            { title: "A", cut: 8 },
            { title: "B", spare: 1 },
            { title: "C", cut: 12, spare: 2 },
            sentence,
          ],
          cells,
          80,
        );
        // A word that has no room in any line is the only one that may be wider.
        const wide = table.filter((line) => line.length > 80);
        expect(wide.filter((line) => line.trim().includes(" "))).toEqual([]);
        expect(table.filter((line) => /^\d( |$)/.test(line))).toHaveLength(given.length);
      }),
    );
  });
});
