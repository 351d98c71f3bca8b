import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { expect, test } from "vitest";
import { temporaryDirectory } from "../builders/temporary-directory.ts";
import { createProgress } from "../load/progress.ts";
import { writeReport } from "../load/report.ts";
import { runLoad } from "../load/run-load.ts";

/** The short form of `npm run load`: the real program, for some seconds, without real machines. */
test("under load every job by webhook has its end, once, and nothing is left", {
  timeout: 400_000,
}, async () => {
  await using directory = await temporaryDirectory();
  const options = { minutes: 0.06, jobs: 16, real: 0, seed: 1, workMs: [200, 1_500] as const };
  const { signal } = new AbortController();

  const { report, drawn } = await runLoad(
    { ...options, signal, logDirectory: directory.path },
    createProgress(new PassThrough()),
  );
  const text = await writeReport(directory.path, report, drawn);

  expect(report.problems, text).toEqual([]);
  const [part] = report.parts;
  expect(part?.jobs.made).toBeGreaterThan(10);
  expect(part?.jobs).toMatchObject({ success: part?.jobs.made, open: 0 });
  expect(part?.latencies.map(({ n }) => n)).toEqual(Array(4).fill(part?.jobs.made));
  expect([...drawn.courses.values()].some(({ job }) => job.definition.image)).toBe(true);
  expect(part?.manager.courses.every(({ start, end }) => start > 0 && end > 0)).toBe(true);
  expect(text.split("\n").filter((line) => line.length > 80)).toEqual([]);
  expect(await readFile(join(directory.path, "load.svg"), "utf8")).toContain("prefers-color-scheme");
});
