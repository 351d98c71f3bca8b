import { expect, test } from "vitest";
import { testImageDirectory } from "../harness/image.ts";
import type { RealReport } from "../hostile/real-guest.ts";
import { runHostile } from "../hostile/run.ts";
import buildImage from "../vm/build-image.ts";

/**
 * What the manager keeps for a neighbour while ten guests do harm. The programs run at the least priority (machines run at a lower one
 * than the manager as well): it is the manager that is measured, not a computer without CPU. What else the computer does counts for the
 * neighbour alone and attacked.
 */

/**
 * Short in the suite; `npm run test:hostile` goes on for two minutes, adds a job in a real microVM that does the same kinds of harm, and
 * then waits half a minute for the memory.
 */
const seconds = Number(process.env["FIRERUNNER_HOSTILE_SECONDS"] ?? 5);
const isLong = seconds >= 60;
const restSeconds = isLong ? 30 : 5;
/** What the C library and V8 do not give back to the system though nothing holds it: docs/security.md has the figures. */
const MOST_KEPT = 1.45;
/** In the suite a few answers are taken while other tests run beside it: it shows only that the neighbour is not stopped. */
const slowestMs = isLong ? 250 : 2_000;

test("ten hostile guests at once neither end a manager with a small heap, nor stop a neighbour, nor keep its memory", {
  timeout: (seconds * 3 + (isLong ? 600 : 120)) * 1_000,
}, async () => {
  if (isLong) await buildImage();
  const images = isLong ? { imagesDirectory: testImageDirectory() } : {};
  const report = await runHostile({ seconds, restSeconds, ...images });
  process.stdout.write(`${JSON.stringify(report)}\n`);
  const { sent, neighbourMs, memoryMib } = report;

  // A program that never came through would show nothing.
  expect(Object.entries(sent).filter(([, count]) => count < 10)).toEqual([]);
  if (isLong) expectArrived(report.real);
  expect(report.isAlive).toBe(true);
  expect(neighbourMs.attacked).toMatchObject({ failed: 0 });
  expect(neighbourMs.attacked.p95).toBeLessThanOrEqual(Math.max(3 * neighbourMs.alone.p95, slowestMs));
  expect(memoryMib.after.held).toBeLessThanOrEqual(1.2 * memoryMib.before.held);
  if (isLong) expect(memoryMib.after.rss).toBeLessThanOrEqual(MOST_KEPT * memoryMib.before.rss);
  // Six of a job, and so many of all jobs that GitLab does not close itself to this address.
  expect(report.guessesAtGitLab).toBeLessThanOrEqual(6 + Math.ceil(seconds / 20));
});

/** What is asked in a real machine has to pass a hypervisor and a program for each connection: that it came to the relay is shown by answers. */
function expectArrived(real: (RealReport & { readonly requestsAtGitLab: number }) | undefined): void {
  expect(Object.values(real?.sent ?? {}).filter((count) => count >= 10)).toHaveLength(6);
  const statuses = Object.values(real?.answered ?? {}).flatMap(Object.entries);
  const answers = statuses.filter(([status]) => /^[1-5]\d\d$/.test(status)).map(([, count]) => Number(count));
  expect(answers.reduce((sum, count) => sum + count, 0)).toBeGreaterThanOrEqual(20);
  expect(real?.requestsAtGitLab).toBeGreaterThanOrEqual(1);
}
