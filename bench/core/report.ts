import { type Figure, isKept, type Promised, type Row, type Unit } from "./figure.ts";
import type { Results } from "./results.ts";
import type { Summary } from "./statistics.ts";

const head = `# Performance

Written by \`npm run bench\` from bench/results.json; do not edit. \`npm run bench -- NAME…\` measures some figures again.

Every figure is measured beside something else in the same run, on a machine that does other work too: trust the ratios and
differences, take the absolute values as examples. Each series has its median, 90th percentile and maximum.`;

const columns = ["what", "n", "median", "p90", "max", "beside it", "ratio", "difference", "promise"];

/** The page, from results alone. */
export function renderReport(
  figures: readonly Pick<Figure, "name" | "title" | "about" | "needs">[],
  results: Results,
): string {
  const known = figures.flatMap((figure) => {
    const result = results.figures[figure.name];
    return result ? [{ figure, result }] : [];
  });
  const missing = figures.filter(({ name }) => !results.figures[name]);
  const newest = known.filter(({ result }) => result.run === results.run);
  const environment = (newest[0] ?? known[0])?.result.environment ?? [];
  const sections = known.map(({ figure, result }) => {
    const isOld = result.run !== results.run;
    const differs = result.environment.join() !== environment.join();
    const origin = [
      ...(isOld ? ["Kept from an earlier run."] : []),
      ...(differs ? [`Measured with: ${result.environment.join("; ")}.`] : []),
    ].join(" ");
    return [
      `## ${figure.title}`,
      figure.about,
      ...(origin ? [`*${origin}*`] : []),
      tableOf(result.rows),
    ].join("\n\n");
  });
  const parts = [
    head,
    promisesOf(known.flatMap(({ result }) => result.rows)),
    environment.map((line) => `- ${line}`).join("\n"),
    ...sections,
    ...(missing.length > 0 ? [`Not measured yet: ${missing.map(nameWithNeeds).join(", ")}.`] : []),
  ];
  return `${parts.filter((part) => part !== "").join("\n\n")}\n`;
}

function nameWithNeeds({ name, needs }: Pick<Figure, "name" | "needs">): string {
  return needs ? `${name} (not run without ${needs.variable}, the path of ${needs.what})` : name;
}

function promisesOf(rows: readonly Row[]): string {
  const promising = rows.filter(({ promised }) => promised);
  if (promising.length === 0) return "";
  const broken = promising.filter((row) => !isKept(row));
  const count = `${promising.length - broken.length} of ${promising.length} promises are kept`;
  return broken.length === 0
    ? `${count}.`
    : `${count}; not kept: ${broken.map(({ what }) => what).join("; ")}.`;
}

function tableOf(rows: readonly Row[]): string {
  const table = [columns, ...rows.map(cellsOf)];
  const widths = columns.map((_, column) => Math.max(...table.map((cells) => (cells[column] ?? "").length)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(" | ")} |`;
  const [header = "", ...lines] = table.map(line);
  return [header, `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`, ...lines].join("\n");
}

function cellsOf(row: Row): string[] {
  const { what, unit, measured, beside, ratio, difference } = row;
  return [
    what,
    String(measured.n),
    formatValue(measured.median, unit),
    formatValue(measured.p90, unit),
    formatValue(measured.max, unit),
    beside ? `${beside.what}: ${describeSummary(beside.measured, unit)}` : "",
    ratio === undefined ? "" : formatNumber(ratio),
    difference === undefined ? "" : formatValue(difference, unit),
    describePromise(row),
  ];
}

function describeSummary({ n, median, p90, max }: Summary, unit: Unit): string {
  return `median ${formatValue(median, unit)} (p90 ${formatNumber(p90)}, max ${formatNumber(max)}, n ${n})`;
}

function describePromise(row: Row): string {
  if (!row.promised) return "";
  return `${wordsOf(row.promised, row.unit)}: ${isKept(row) ? "kept" : "**not kept**"}`;
}

function wordsOf({ of, bound, value }: Promised, unit: Unit): string {
  const sign = bound === "at most" ? "≤" : "≥";
  return `${of} ${sign} ${of === "ratio" ? formatNumber(value) : formatValue(value, unit)}`;
}

export function formatValue(value: number, unit: Unit): string {
  if (unit === "%") return `${formatNumber(value)} %`;
  if (unit === "times") return formatNumber(value);
  return `${formatNumber(value)} ${unit}`;
}

/** Three significant digits, never an exponent: `12345`, `123`, `1.23`, `0.0123`. */
function formatNumber(value: number): string {
  if (Math.abs(value) >= 100) return String(Math.round(value));
  return String(Number(value.toPrecision(3)));
}
