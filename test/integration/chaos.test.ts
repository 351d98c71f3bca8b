import { PassThrough } from "node:stream";
import { expect, test } from "vitest";
import { temporaryDirectory } from "../builders/temporary-directory.ts";
import { createProgress } from "../load/progress.ts";
import { writeReport } from "../load/report.ts";
import { runChaos } from "../load/run-chaos.ts";

/** The short form of `npm run chaos`: faults after which everything is well again at once, so that the run soon ends. */
const only = [
  ...(["manager killed", "job canceled", "GitLab down", "GitLab answers 5xx"] as const),
  ...(["flintlockd restarted", "delay", "reset", "refused", "names fail"] as const),
];

test("under chaos every job has its end, once, and nothing is left", { timeout: 400_000 }, async () => {
  await using directory = await temporaryDirectory();
  const { signal } = new AbortController();

  const { report, drawn } = await runChaos(
    {
      ...{ minutes: 0.6, speed: 10, jobs: 6, seed: 4, only, signal, logDirectory: directory.path },
      ...{ workMs: [200, 1_500], gapMs: [2_000, 5_000], lengthMs: [3_000, 8_000] },
    },
    createProgress(new PassThrough()),
  );
  const text = await writeReport(directory.path, report, drawn);

  expect(report.problems, text).toEqual([]);
  const [part] = report.parts;
  expect(part?.jobs.made).toBeGreaterThan(5);
  expect(part?.manager.starts).toBeGreaterThan(1);
  expect(report.faults.length).toBeGreaterThan(6);
  expect(text.split("\n").filter((line) => line.length > 80)).toEqual([]);
});
