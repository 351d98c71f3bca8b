/** What `npm run load` and `npm run chaos` share: numbers from the command line, progress, the report's files, the exit code. */
import { resolve } from "node:path";
import { createProgress, type Progress } from "./progress.ts";
import { type Drawn, type Report, writeReport } from "./report.ts";

interface Limits {
  readonly least: number;
  readonly most: number;
  readonly whole?: boolean;
}

/** Ends the program with 2 when it is none. */
export function numberFrom(name: string, text: string, { least, most, whole }: Limits): number {
  const number = text.trim() === "" ? Number.NaN : Number(text);
  const isFit = number >= least && number <= most && (!whole || Number.isInteger(number));
  if (isFit) return number;
  console.error(`${name} ${text}: expected a ${whole ? "whole " : ""}number from ${least} to ${most}`);
  process.exit(2);
}

/** Runs it, and writes what it found. Exit code 0: all is well; 1: something is lost, doubled, left or grows; 2: it could not be run. */
export async function report(
  directory: string,
  run: (progress: Progress, signal: AbortSignal) => Promise<{ report: Report; drawn: Drawn }>,
): Promise<void> {
  const progress = createProgress(process.stderr);
  const stopping = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const)
    process.once(name, () => stopping.abort(new Error(`stopped by ${name}: nothing was judged`)));
  try {
    const { report, drawn } = await run(progress, stopping.signal);
    progress.close();
    process.stdout.write(await writeReport(directory, report, drawn));
    console.error(`${resolve(directory)} has ${report.what}.json, ${report.what}.svg and ${report.what}.txt`);
    process.exitCode = report.problems.length === 0 ? 0 : 1;
  } catch (error) {
    progress.close();
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 2;
  }
}
