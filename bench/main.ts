/** `npm run bench [-- NAME…]`: measures, then writes bench/results.json and docs/performance.md. `--quick`: a trial of the bench itself. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { formatDuration } from "../src/base/units.ts";
import { describeEnvironment } from "./core/environment.ts";
import { type Figure, isKept, type Row } from "./core/figure.ts";
import { formatValue, renderReport } from "./core/report.ts";
import { readResults, withRun, writeResults } from "./core/results.ts";
import { figures } from "./figures.ts";

const root = join(import.meta.dirname, "..");
const resultsFile = join(root, "bench/results.json");
const reportFile = join(root, "docs/performance.md");
const QUICK_LIMIT_MS = 30_000;

const interrupted = Promise.withResolvers<never>();
interrupted.promise.catch(() => {});
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => interrupted.reject(new Error(`stopped by ${signal}`)));
}

const names = process.argv.slice(2).filter((word) => !word.startsWith("--"));
const quick = process.argv.includes("--quick");
const isReportOnly = process.argv.includes("--report");

if (isReportOnly) await writeReport();
else process.exitCode = await runAll(chosen());

function chosen(): readonly Figure[] {
  const unknown = names.filter((name) => !figures.some((figure) => figure.name === name));
  if (unknown.length > 0) {
    const known = figures.map(({ name }) => name).join(", ");
    throw new Error(`there is no figure ${unknown.join(", ")}; there are: ${known}`);
  }
  if (names.length > 0) return figures.filter(({ name }) => names.includes(name));
  return quick ? figures.filter(({ machines }) => !machines) : figures;
}

async function runAll(wanted: readonly Figure[]): Promise<number> {
  const measured = new Map<string, readonly Row[]>();
  let failures = 0;
  for (const figure of wanted) {
    const { needs } = figure;
    if (needs && !process.env[needs.variable]) {
      say(`${figure.name}: not run: ${needs.variable} names no ${needs.what}`);
      continue;
    }
    try {
      measured.set(figure.name, await runOne(figure));
    } catch (error) {
      failures += 1;
      say(`${figure.name}: failed: ${error instanceof Error ? (error.stack ?? error.message) : error}`);
      if (error instanceof Error && error.message.startsWith("stopped by")) break;
    }
  }
  if (!quick && measured.size > 0) {
    const machines = wanted.some((figure) => figure.machines);
    const environment = await describeEnvironment(machines ? "tcg" : undefined);
    await writeResults(resultsFile, withRun(await readResults(resultsFile), environment, measured));
    await writeReport();
    say("written: bench/results.json and docs/performance.md");
  }
  return failures > 0 ? 1 : 0;
}

async function runOne(figure: Figure): Promise<readonly Row[]> {
  const cleanUps: (() => Promise<unknown> | unknown)[] = [];
  const startedAt = Date.now();
  const limitMs = quick && !figure.machines ? QUICK_LIMIT_MS : figure.limitMs;
  const limit = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => limit.reject(new Error(`not done after ${formatDuration(limitMs)}`)),
    limitMs,
  );
  say(`${figure.name}: ${figure.title}`);
  try {
    const work = figure.measure({
      quick,
      progress: (text) => say(`  ${text}`),
      defer: (cleanUp) => cleanUps.push(cleanUp),
    });
    // Given up: what it still does fails while it is being cleaned up.
    work.catch(() => {});
    const rows = await Promise.race([work, limit.promise, interrupted.promise]);
    for (const row of rows) say(`  ${describeRow(row)}`);
    say(`  (${formatDuration(Date.now() - startedAt)})`);
    return rows;
  } finally {
    clearTimeout(timer);
    for (const cleanUp of cleanUps.reverse()) await Promise.resolve(cleanUp()).catch(() => {});
  }
}

function describeRow(row: Row): string {
  const { what, unit, measured, beside, ratio } = row;
  const other = beside ? `, ${beside.what} ${formatValue(beside.measured.median, unit)}` : "";
  const factor = ratio === undefined ? "" : `, ratio ${formatValue(ratio, "times")}`;
  // A trial run says whether the bench works, not how quick anything is.
  const kept = quick ? undefined : isKept(row);
  const verdict = kept === undefined ? "" : kept ? ", promise kept" : ", PROMISE NOT KEPT";
  return `${what}: median ${formatValue(measured.median, unit)}, p90 ${formatValue(measured.p90, unit)}, max ${formatValue(measured.max, unit)} (n ${measured.n})${other}${factor}${verdict}`;
}

async function writeReport(): Promise<void> {
  await writeFile(reportFile, renderReport(figures, await readResults(resultsFile)));
}

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}
