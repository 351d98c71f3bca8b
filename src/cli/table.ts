import { stripVTControlCharacters } from "node:util";

const GAP = 2;
const INDENT = "  ";

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
  const [head = "", ...lines] = draw(layoutOf(beside, cells, width) ?? layoutAnyway(beside, cells));
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

/** Too wide a table is better than none. */
function layoutAnyway(columns: readonly Column[], rows: Rows): Layout {
  const kept = columns.flatMap((column, at) => (column.spare === undefined ? { column, at } : []));
  const cells = rows.map((row) => kept.map(({ at }) => row[at] ?? ""));
  const titles = kept.map(({ column }) => column.title);
  const widths = kept.map(({ column }, at) =>
    Math.min(column.cut ?? Number.POSITIVE_INFINITY, widest(titles[at], cells, at)),
  );
  return { widths, rows: [titles, ...cells] };
}

function widthsWithin(columns: readonly Column[], rows: Rows, width: number): number[] | undefined {
  const widths = columns.map(({ title }, at) => widest(title, rows, at));
  let over = sum(widths) + GAP * (widths.length - 1) - width;
  while (over > 0) {
    const spare = columns.map(({ cut, title }, at) =>
      cut === undefined ? 0 : (widths[at] ?? 0) - Math.max(cut, title.length),
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
  const length = visibleLength(cell);
  if (length <= width) return cell + " ".repeat(width - length);
  return `${stripVTControlCharacters(cell).slice(0, Math.max(0, width - 1))}…`;
}

function below(row: readonly string[], sentences: readonly number[], width: number): string[] {
  return sentences
    .flatMap((at) => broken(stripVTControlCharacters(row[at] ?? ""), width - INDENT.length * 2))
    .map((line) => `${INDENT}${INDENT}${line}`);
}

/** The text in lines of at most `width` characters, broken between words where there are any. */
export function broken(text: string, width: number): string[] {
  const lines: string[] = [];
  let rest = text.trim();
  while (rest.length > width) {
    const space = rest.lastIndexOf(" ", width);
    const end = space > 0 ? space : width;
    lines.push(rest.slice(0, end));
    rest = rest.slice(end).trimStart();
  }
  return rest === "" ? lines : [...lines, rest];
}

function widest(title: string | undefined, rows: Rows, at: number): number {
  // Not spread into one call: a table may have more rows than a call takes arguments.
  return rows.reduce((most, row) => Math.max(most, visibleLength(row[at] ?? "")), title?.length ?? 0);
}

function visibleLength(text: string): number {
  return stripVTControlCharacters(text).length;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}
