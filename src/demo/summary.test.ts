import { stripVTControlCharacters } from "node:util";
import { expect, test } from "vitest";
import { visibleWidth } from "../base/text.ts";
import { createScreen } from "./screen.ts";
import { type DemoResult, printSummary } from "./summary.ts";

const job: DemoResult["jobs"][number] = {
  ...{ name: "fails", jobId: 7, machine: "fr-abcdefgh", mark: null, asExpected: true },
  ...{ expected: "failed, script_failure", result: "failed (script_failure, exit code 3)" },
  ...{ queuedMs: 120_000, bootMs: 14_200, prepareMs: 3_100, runMs: 192_000, reactionMs: 1_200 },
};

function shown(result: Partial<DemoResult>, columns: number | undefined): string[] {
  const written: string[] = [];
  const output = { write: (text: string) => written.push(text) };
  const screen = createScreen(columns === undefined ? output : { ...output, isTTY: true, columns });
  const all = { ok: true, sentence: null, jobs: [job], leftovers: [], violations: [] };
  printSummary(screen, { ...all, ...result });
  return stripVTControlCharacters(written.join("")).split("\n");
}

test("how a job ended stands beside its row, or below it where there is no room", () => {
  expect(shown({}, 130).join("\n")).toMatch(
    /✓ +fails +failed +script_failure, exit code 3; as expected +2m0s/,
  );
  expect(shown({}, 80).join("\n")).toMatch(
    /✓ +fails +failed +2m0s .*\n +script_failure, exit code 3; as expected\n/,
  );
});

test("another end than the expected one is told with both", () => {
  const jobs = [{ ...job, asExpected: false, expected: "success" }];

  expect(shown({ jobs }, 80).join("\n")).toMatch(
    /✗ +fails .*\n +script_failure, exit code 3; expected: success\n/,
  );
});

test.each([undefined, 80, 60])("long names keep to the screen (columns: %s)", (columns) => {
  const name = "test: [python 3.13, a-long-name-of-a-service, 測試] 🚀 2/3";
  const sentence = `The pipeline failed: ${`“${name}” failed, `.repeat(4)}and the rest was skipped.`;
  const leftovers = [`the machine fr-abcdefgh of ${name} ${name}`];
  const violations = [{ rule: "trace-range" as const, detail: `${name} ${name}`, jobId: 7, at: 0 }];
  const jobs = [
    { ...job, name },
    { ...job, name, mark: "!", expected: null, result: `skipped: ${name} ${name}` },
  ];
  const lines = shown({ ok: false, sentence, jobs, leftovers, violations }, columns);

  expect(lines.filter((line) => visibleWidth(line) > (columns ?? 80))).toEqual([]);
});
