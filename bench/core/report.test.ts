import { describe, expect, test } from "vitest";
import { compare, isKept, type Row } from "./figure.ts";
import { renderReport } from "./report.ts";
import { type Results, withRun } from "./results.ts";
import { summarize } from "./statistics.ts";

const claim = { name: "claim", title: "Claiming", about: "How it was done." };
const relay = { name: "relay", title: "Relay", about: "Pairs." };
const empty: Results = { run: 0, figures: {} };

function aRow(samples: number[], more: Partial<Row> = {}): Row {
  return { what: "pending to claimed", unit: "ms", measured: summarize(samples), ...more };
}

describe("promises", () => {
  test("are judged by the number they are about", () => {
    const promised = { of: "median", bound: "at most", value: 5 } as const;

    expect(isKept(aRow([5, 5, 90], { promised }))).toBe(true);
    expect(isKept(aRow([6], { promised }))).toBe(false);
    expect(isKept(aRow([6], { promised: { ...promised, of: "p90", value: 6 } }))).toBe(true);
    expect(isKept(aRow([6]))).toBeUndefined();
  });

  test("about a ratio fail when there is none", () => {
    const promised = { of: "ratio", bound: "at least", value: 0.6 } as const;

    expect(isKept(aRow([1], { promised }))).toBe(false);
    expect(isKept({ ...compare(aRow([7]), "direct", summarize([10])), promised })).toBe(true);
  });
});

describe("comparisons", () => {
  test("have the ratio and the difference of the medians", () => {
    expect(compare(aRow([3, 4, 5]), "direct", summarize([2]))).toMatchObject({ ratio: 2, difference: 2 });
  });

  test("with nothing have no ratio", () => {
    expect(compare(aRow([3]), "nothing", summarize([0]))).not.toHaveProperty("ratio");
  });
});

describe("the report", () => {
  test("shows each row with what it was compared with, and whether its promise is kept", () => {
    const promised = { of: "median", bound: "at most", value: 50 } as const;
    const row = compare(aRow([10, 12, 14], { promised }), "plain runner", summarize([1200]));
    const text = renderReport([claim], withRun(empty, ["2 CPU cores"], new Map([["claim", [row]]])));

    expect(text).toContain("1 of 1 promises are kept.");
    expect(text).toContain("- 2 CPU cores");
    expect(text.replaceAll(/ +/g, " ")).toContain(
      "| pending to claimed | 3 | 12 ms | 13.6 ms | 14 ms | plain runner: median 1200 ms",
    );
    expect(text.replaceAll(/ +/g, " ")).toContain("| 0.01 | -1188 ms | median ≤ 50 ms: kept |");
  });

  test("names promises that are not kept", () => {
    const row = aRow([80], { promised: { of: "median", bound: "at most", value: 50 } });
    const text = renderReport([claim], withRun(empty, [], new Map([["claim", [row]]])));

    expect(text).toContain("0 of 1 promises are kept; not kept: pending to claimed.");
    expect(text).toContain("**not kept**");
  });

  test("keeps the figures of an earlier run and says so", () => {
    const first = withRun(empty, ["2 CPU cores"], new Map([["claim", [aRow([10])]]]));
    const second = withRun(first, ["4 CPU cores"], new Map([["relay", [aRow([1])]]]));
    const text = renderReport([claim, relay], second);

    expect(text).toContain("*Kept from an earlier run. Measured with: 2 CPU cores.*");
    expect(text.match(/Kept from an earlier run/g)).toHaveLength(1);
    expect(text).toContain("- 4 CPU cores");
  });

  test("invents nothing for figures that were never run", () => {
    const text = renderReport([claim, relay], withRun(empty, [], new Map([["relay", [aRow([1])]]])));

    expect(text).toContain("Not measured yet: claim.");
    expect(text).not.toContain("## Claiming");
  });
});
