import { readFile, writeFile } from "node:fs/promises";
import { z } from "zod";
import type { Environment } from "./environment.ts";
import type { Row } from "./figure.ts";

const Summary = z.strictObject({
  n: z.number(),
  min: z.number(),
  median: z.number(),
  p90: z.number(),
  max: z.number(),
});

const Row_ = z.strictObject({
  what: z.string(),
  unit: z.enum(["ms", "MiB", "MiB/s", "%", "per second", "times", "deliveries"]),
  measured: Summary,
  beside: z.strictObject({ what: z.string(), measured: Summary }).exactOptional(),
  ratio: z.number().exactOptional(),
  difference: z.number().exactOptional(),
  promised: z
    .strictObject({
      of: z.enum(["median", "p90", "max", "ratio", "difference"]),
      bound: z.enum(["at most", "at least"]),
      value: z.number(),
    })
    .exactOptional(),
});

const Results_ = z.strictObject({
  /** Counts the runs that wrote this file. */
  run: z.number().int(),
  figures: z.record(
    z.string(),
    z.strictObject({ run: z.number().int(), environment: z.array(z.string()), rows: z.array(Row_) }),
  ),
});

/** The last result of every figure, and in which run it was measured. */
export type Results = z.infer<typeof Results_>;

const none: Results = { run: 0, figures: {} };

export async function readResults(path: string): Promise<Results> {
  const text = await readFile(path, "utf8").catch(() => undefined);
  return text === undefined ? none : Results_.parse(JSON.parse(text));
}

export async function writeResults(path: string, results: Results): Promise<void> {
  await writeFile(path, `${JSON.stringify(results, roundNumbers, 2)}\n`);
}

/** The results with those of one more run laid over them. Figures that were not run keep what they had. */
export function withRun(
  before: Results,
  environment: Environment,
  measured: ReadonlyMap<string, readonly Row[]>,
): Results {
  const run = before.run + 1;
  const figures = { ...before.figures };
  for (const [name, rows] of measured)
    figures[name] = { run, environment: [...environment], rows: [...rows] };
  return { run, figures };
}

/** Six digits are more than was measured. */
function roundNumbers(_key: string, value: unknown): unknown {
  return typeof value === "number" ? Number(value.toPrecision(6)) : value;
}
