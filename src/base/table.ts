/** Tables for people, that fit a screen. */
import { stripVTControlCharacters } from "node:util";
import { cutToWidth, visibleWidth, wrapped } from "./text.ts";

const GAP = 2;
const INDENT = "    ";
/** Of cells that are cut further than is good, since nothing else helps. */
const SHORT_CELL = 8;
const LEAST_CELL = 4;
const WHOLE = Number.POSITIVE_INFINITY;

export interface Column {
  readonly title: string;
  /** When the table is too wide the column with the highest number goes first; those without one stay. */
  readonly spare?: number;
  /** Cells may be cut to so many characters, which is better than leaving a column out. */
  readonly cut?: number;
  /** Sentences, which move below their row when there is no room beside it, and are broken there into lines. */
  readonly below?: boolean;
}

type Rows = readonly (readonly string[])[];

/**
 * Lines of at most `width` characters where that can be: cells are cut, then columns left out, in the order that the columns say.
 * Columns are as wide as their widest cell, two spaces between them; cells may be coloured. Empty without rows.
 */
export function formatTable(columns: readonly Column[], rows: Rows, width: number): string[] {
  if (rows.length === 0) return [];
  const whole = layoutOf(columns, rows, width);
  if (whole) return draw(whole);
  const sentences = columns.flatMap((column, at) => (column.below ? at : []));
  const beside = columns.filter((column) => !column.below);
  const cells = rows.map((row) => row.filter((_, at) => !sentences.includes(at)));
  const [head = "", ...lines] = draw(layoutOf(beside, cells, width) ?? layoutAnyway(beside, cells, width));
  return [head, ...lines.flatMap((line, at) => [line, ...below(rows[at] ?? [], sentences, width)])];
}

interface Layout {
  readonly widths: readonly number[];
  readonly rows: Rows;
}

/** With as many columns as fit; undefined when even the least do not. */
function layoutOf(columns: readonly Column[], rows: Rows, width: number): Layout | undefined {
  const order = columns
    .flatMap((column, at) => (column.spare === undefined ? [] : { at, spare: column.spare }))
    .toSorted((a, b) => b.spare - a.spare);
  for (let left = 0; left <= order.length; left++) {
    const gone = new Set(order.slice(0, left).map(({ at }) => at));
    const kept = columns.filter((_, at) => !gone.has(at));
    const cells = rows.map((row) => row.filter((_, at) => !gone.has(at)));
    const widths = widthsWithin(kept, cells, width);
    if (widths) return { widths, rows: [kept.map(({ title }) => title), ...cells] };
  }
  return undefined;
}

/** Nothing but the columns that stay, cut as far as it takes: first those that may be, then all but that by which a row is known. */
function layoutAnyway(columns: readonly Column[], rows: Rows, width: number): Layout {
  const kept = columns.flatMap((column, at) => (column.spare === undefined ? [{ column, at }] : []));
  const cells = rows.map((row) => kept.map(({ at }) => row[at] ?? ""));
  const titles = kept.map(({ column }) => column.title);
  const cutting = (leastOf: (column: Column, at: number) => number) => {
    const cut = kept.map(({ column }, at) => ({ title: column.title, cut: leastOf(column, at) }));
    return widthsWithin(cut, cells, width);
  };
  const widths =
    cutting(({ cut }) => (cut === undefined ? WHOLE : SHORT_CELL)) ??
    cutting(({ cut = WHOLE }, at) => (at === 0 ? cut : LEAST_CELL)) ??
    cutting(() => LEAST_CELL);
  return { widths: widths ?? titles.map(visibleWidth), rows: [titles, ...cells] };
}

function widthsWithin(columns: readonly Column[], rows: Rows, width: number): number[] | undefined {
  const widths = columns.map(({ title }, at) => widest(title, rows, at));
  let over = sum(widths) + GAP * (widths.length - 1) - width;
  while (over > 0) {
    const spare = columns.map(({ cut, title }, at) =>
      cut === undefined ? 0 : (widths[at] ?? 0) - Math.max(cut, visibleWidth(title)),
    );
    const most = Math.max(...spare);
    if (most <= 0) return undefined;
    // The one that has most to give goes first, a character at a time.
    const at = spare.indexOf(most);
    widths[at] = (widths[at] ?? 0) - 1;
    over--;
  }
  return widths;
}

function draw({ widths, rows }: Layout): string[] {
  return rows.map((row) =>
    row
      .map((cell, at) => padded(cell, widths[at] ?? 0))
      .join(" ".repeat(GAP))
      .trimEnd(),
  );
}

function padded(cell: string, width: number): string {
  const length = visibleWidth(cell);
  if (length <= width) return cell + " ".repeat(width - length);
  const cut = cutToWidth(cell, width);
  return cut + " ".repeat(Math.max(0, width - visibleWidth(cut)));
}

function below(row: readonly string[], sentences: readonly number[], width: number): string[] {
  const told = sentences.map((at) => stripVTControlCharacters(row[at] ?? "").trim());
  return told.flatMap((text) => (text === "" ? [] : wrapped(INDENT + text, width, INDENT.length)));
}

function widest(title: string | undefined, rows: Rows, at: number): number {
  // Not spread into one call: a table may have more rows than a call takes arguments.
  return rows.reduce((most, row) => Math.max(most, visibleWidth(row[at] ?? "")), visibleWidth(title ?? ""));
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}
