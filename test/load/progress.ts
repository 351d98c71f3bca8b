/** How a run goes, while it goes: one line, drawn again and again on a terminal; elsewhere a line now and then. */
import type { Writable } from "node:stream";

const CLEAR_LINE = "\r\u001b[2K";
const DRAW_MS = 500;
const LINE_MS = 15_000;
const USUAL_COLUMNS = 80;

export interface Progress {
  /** Shows what `tell` says from now on. */
  show(tell: () => string): void;
  /** A line that stays. */
  say(text: string): void;
  close(): void;
}

/** `12:07` */
export function minutesAndSeconds(ms: number): string {
  const seconds = Math.round(ms / 1_000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

export function createProgress(output: Writable & { isTTY?: boolean; columns?: number }): Progress {
  let tell: (() => string) | undefined;
  const isTerminal = output.isTTY === true;

  function draw(): void {
    if (!tell) return;
    const text = tell();
    if (isTerminal) output.write(`${CLEAR_LINE}${text.slice(0, (output.columns ?? USUAL_COLUMNS) - 1)}`);
    else output.write(`${text}\n`);
  }

  const timer = setInterval(draw, isTerminal ? DRAW_MS : LINE_MS);
  timer.unref();
  return {
    show(next) {
      tell = next;
      draw();
    },
    say(text) {
      output.write(`${isTerminal ? CLEAR_LINE : ""}${text}\n`);
      if (isTerminal) draw();
    },
    close() {
      clearInterval(timer);
      if (isTerminal) output.write(CLEAR_LINE);
      tell = undefined;
    },
  };
}
