import type { Writable } from "node:stream";
import { stripVTControlCharacters, styleText } from "node:util";
import { type Column, formatTable } from "./table.ts";

const USUAL_COLUMNS = 80;

type Style = Parameters<typeof styleText>[0];

/** Where a command writes. Results go to `out`, everything about them to `err`, so that pipes get results alone. */
export interface Output {
  /** True when results are wanted as JSON. */
  readonly json: boolean;
  line(text?: string): void;
  /** A table that fits the terminal, or 80 columns where there is none. */
  table(columns: readonly Column[], rows: readonly (readonly string[])[]): void;
  note(text: string): void;
  /** Prints `value` as JSON, or calls `human` when people read. */
  result(value: unknown, human: () => void): void;
  paint(style: Style, text: string): string;
  /** Bytes as they are, such as a console's. Resolves when the reader is ready for more. */
  raw(text: string): Promise<void>;
}

export interface OutputOptions {
  readonly stdout: Writable & { isTTY?: boolean; columns?: number };
  readonly stderr: Writable;
  readonly env: NodeJS.ProcessEnv;
  readonly json: boolean;
}

export function createOutput({ stdout, stderr, env, json }: OutputOptions): Output {
  const isTerminal = stdout.isTTY === true;
  const hasColours = isTerminal && !env["NO_COLOR"] && env["TERM"] !== "dumb";
  return {
    json,
    line: (text = "") => void stdout.write(`${text}\n`),
    table(columns, rows) {
      const width = isTerminal ? stdout.columns || USUAL_COLUMNS : USUAL_COLUMNS;
      for (const line of formatTable(columns, rows, width)) stdout.write(`${line}\n`);
    },
    note: (text) => void stderr.write(`${text}\n`),
    result(value, human) {
      if (json) stdout.write(`${JSON.stringify(value, null, 2)}\n`);
      else human();
    },
    paint: (style, text) => (hasColours ? styleText(style, text, { validateStream: false }) : text),
    raw: (text) =>
      new Promise((resolve) => {
        if (stdout.write(isTerminal ? harmless(text) : text)) resolve();
        else stdout.once("drain", () => resolve());
      }),
  };
}

/** Text from a guest or from GitLab for a terminal: no control sequences, which could rewrite what the operator sees. */
export function harmless(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must go.
  return stripVTControlCharacters(text).replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/g, "");
}
