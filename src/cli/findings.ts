import { plainText } from "../base/text.ts";
import type { Output } from "./output.ts";

const MARK_WIDTH = 6;
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

/** What was found, beside its name, and below it what to do. */
export function printFinding(output: Output, { name, level, message, hint }: Told): void {
  const [colour, word] = marks[level];
  const told = `${output.paint(colour, word)}  ${name.padEnd(NAME_WIDTH)}  ${plainText(message)}`;
  output.line(told, [MARK_WIDTH + NAME_WIDTH + 2, MARK_WIDTH]);
  if (hint !== undefined) output.line(`${" ".repeat(MARK_WIDTH)}→ ${plainText(hint)}`);
}
