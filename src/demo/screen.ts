import { randomInt } from "node:crypto";
import { every, systemClock } from "../base/clock.ts";
import { cutToWidth, plainText, USUAL_WIDTH, wrapped } from "../base/text.ts";

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
  /** Columns. */
  readonly width: number;
  /**
   * A sentence that stays, in as many lines as it takes. What steers a terminal is taken out of it, but for the colours of this screen:
   * names in it are others'.
   */
  print(sentence?: string): void;
  /** The same as one line, however long: of logs, and of tables that have their width already. */
  exact(line: string): void;
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
  let stopTimer = () => {};
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

  function width(): number {
    return (isLive && output.columns) || USUAL_WIDTH;
  }

  function erase(): void {
    if (drawn > 0) output.write(`${`${UP}${CLEAR_LINE}`.repeat(drawn)}\r`);
    drawn = 0;
  }

  function drawFoot(): void {
    if (!draw) return;
    // A line that wraps would be counted as one, and leave half of itself behind.
    const lines = draw().map((line) => cutToWidth(cleaned(line), width() - 1));
    erase();
    output.write(lines.map((line) => `${line}\n`).join(""));
    drawn = lines.length;
  }

  const paint = (code: string) => (text: string) =>
    isLive ? `\u001b[${code};${mark}m${text}\u001b[0;${mark}m` : text;

  function write(lines: readonly string[]): void {
    erase();
    output.write(lines.map((line) => `${line}\n`).join(""));
    drawFoot();
  }

  return {
    isLive,
    get width() {
      return width();
    },
    print: (sentence = "") => write(wrapped(cleaned(sentence), width())),
    exact: (line) => write([cleaned(line)]),
    startFoot(next) {
      if (!isLive) return;
      draw = next;
      drawFoot();
      stopTimer = every(systemClock, REDRAW_MS, drawFoot);
    },
    stopFoot() {
      stopTimer();
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
