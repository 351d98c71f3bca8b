/** A whole terminal for `top`: keys come in one by one, and a screen is drawn by one write of the lines that have changed. */
import { emitKeypressEvents } from "node:readline";
import type { Readable } from "node:stream";
import type { ScreenStream } from "../output.ts";
import type { ScreenSize } from "./screen.ts";
import type { Key } from "./state.ts";

/** The other screen, which leaves what was on this one; no cursor; no line that goes on in the next one by itself. */
const ENTER = "\u001b[?1049h\u001b[?25l\u001b[?7l\u001b[2J";
const LEAVE = "\u001b[?7h\u001b[?25h\u001b[?1049l";

export interface KeyStream extends Readable {
  readonly isTTY?: boolean;
  setRawMode?(isRaw: boolean): unknown;
}

export interface Terminal extends Disposable {
  size(): ScreenSize;
  /** Nothing once it is given back: what was asked for before may be answered later. */
  draw(lines: readonly string[]): void;
}

interface TerminalOptions {
  readonly stdin: KeyStream;
  readonly stdout: ScreenStream & { readonly rows?: number };
  readonly onKey: (key: Key) => void;
  readonly onResize: () => void;
  /** Nobody is there any more. */
  readonly onEnd: () => void;
}

const USUAL_SIZE: ScreenSize = { columns: 80, rows: 24 };

export function openTerminal({ stdin, stdout, onKey, onResize, onEnd }: TerminalOptions): Terminal {
  let drawn: readonly string[] = [];
  let isOurs = true;
  const keyPressed = (_text: string | undefined, key: Key) => onKey(key);
  /** What was drawn for another size may have been moved or cut by the terminal. */
  const resized = () => {
    drawn = [];
    stdout.write("\u001b[2J");
    onResize();
  };
  emitKeypressEvents(stdin);
  stdin.setRawMode?.(true);
  stdin.on("keypress", keyPressed).once("end", onEnd).resume();
  stdout.on("resize", resized);
  stdout.write(ENTER);
  return {
    size: () => ({ columns: stdout.columns || USUAL_SIZE.columns, rows: stdout.rows || USUAL_SIZE.rows }),
    draw(lines) {
      if (!isOurs) return;
      const changes = lines.flatMap((line, at) =>
        line === drawn[at] ? [] : [`\u001b[${at + 1};1H\u001b[2K${line}`],
      );
      if (changes.length > 0) stdout.write(changes.join(""));
      drawn = lines;
    },
    [Symbol.dispose]() {
      isOurs = false;
      stdin.off("keypress", keyPressed).off("end", onEnd).pause();
      stdin.setRawMode?.(false);
      stdout.off("resize", resized);
      stdout.write(LEAVE);
    },
  };
}
