import { plainText } from "../base/plain-text.ts";
import type { Output } from "./output.ts";

const NAME_WIDTH = 24;

const marks = {
  ok: ["green", "ok  "],
  skip: ["yellow", "skip"],
  warn: ["yellow", "warn"],
  fail: ["red", "FAIL"],
} as const;

interface Told {
  readonly name: string;
  readonly level: keyof typeof marks;
  readonly message: string;
  readonly hint?: string | undefined;
}

/** One line, and another for what to do. */
export function printFinding(output: Output, { name, level, message, hint }: Told): void {
  const [colour, word] = marks[level];
  output.line(`${output.paint(colour, word)}  ${name.padEnd(NAME_WIDTH)}  ${plainText(message)}`);
  if (hint !== undefined) output.line(`      ${" ".repeat(NAME_WIDTH)}  → ${plainText(hint)}`);
}
