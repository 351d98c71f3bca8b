import { randomInt } from "node:crypto";
import { stripVTControlCharacters } from "node:util";
import { plainText } from "../base/plain-text.ts";

const CLEAR_LINE = "\u001b[2K";
const UP = "\u001b[1A";
const REDRAW_MS = 200;

export interface Output {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

export interface Screen {
  readonly isLive: boolean;
  /** A line that stays. What steers a terminal is taken out of it, but for the colours of this screen: names in it are others'. */
  print(line?: string): void;
  /** From now on `draw` gives the lines at the foot of a terminal, drawn again and again; elsewhere it is not called. */
  startFoot(draw: () => readonly string[]): void;
  stopFoot(): void;
  dim(text: string): string;
  bold(text: string): string;
  good(text: string): string;
  bad(text: string): string;
}

/** Lines that scroll, over a foot that stays in place on a terminal. Into a file or pipe only the lines go, without colours. */
export function createScreen(output: Output): Screen {
  const isLive = output.isTTY === true;
  let draw: (() => readonly string[]) | undefined;
  let timer: NodeJS.Timeout | undefined;
  let drawn = 0;
  /** Marks our own colours, so that nobody can write them: a parameter that means nothing, as long as those that are stripped elsewhere. */
  const mark = randomInt(1_000, 10_000);
  const marked = new RegExp(`(\\u001b\\[[0-9;]+;${mark}m)`);

  function cleaned(line: string): string {
    const parts = line.split(marked);
    return parts
      .map((part, at) => (at % 2 === 1 ? part.replace(`;${mark}m`, "m") : inOneLine(part)))
      .join("");
  }

  function erase(): void {
    if (drawn > 0) output.write(`${`${UP}${CLEAR_LINE}`.repeat(drawn)}\r`);
    drawn = 0;
  }

  function drawFoot(): void {
    if (!draw) return;
    const width = (output.columns || 100) - 1;
    const lines = draw().map((line) => fitting(cleaned(line), width));
    erase();
    output.write(lines.map((line) => `${line}\n`).join(""));
    drawn = lines.length;
  }

  const paint = (code: string) => (text: string) =>
    isLive ? `\u001b[${code};${mark}m${text}\u001b[0;${mark}m` : text;

  return {
    isLive,
    print(line = "") {
      erase();
      output.write(`${cleaned(line)}\n`);
      drawFoot();
    },
    startFoot(next) {
      if (!isLive) return;
      draw = next;
      drawFoot();
      timer = setInterval(drawFoot, REDRAW_MS);
    },
    stopFoot() {
      clearInterval(timer);
      erase();
      draw = undefined;
    },
    dim: paint("2"),
    bold: paint("1"),
    good: paint("32"),
    bad: paint("31;1"),
  };
}

/** Without what a terminal would obey; spaces, which make columns, stay. */
function inOneLine(text: string): string {
  return plainText(text).replaceAll("\n", " ");
}

/** A line that would wrap would be counted as one and leave half of itself behind: cut it, without its colours. */
function fitting(line: string, width: number): string {
  const plain = stripVTControlCharacters(line);
  return plain.length <= width ? line : `${plain.slice(0, width - 1)}…`;
}

/** Columns as wide as their widest cell. Colours do not count. */
export function formatTable(rows: readonly (readonly string[])[]): string[] {
  const widthOf = (cell: string) => stripVTControlCharacters(cell).length;
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => widthOf(row[column] ?? ""))),
  );
  return rows.map((row) =>
    row
      .map((cell, column) => cell + " ".repeat((widths[column] ?? 0) - widthOf(cell)))
      .join("  ")
      .trimEnd(),
  );
}
