import type { Writable } from "node:stream";
import { styleText } from "node:util";
import { plainJson, plainText } from "../base/plain-text.ts";
import { CliError } from "./errors.ts";

type Style = Parameters<typeof styleText>[0];

/**
 * Where a command writes. Results go to `out`, everything about them to `err`, so that pipes get results alone. Whatever is printed is
 * plain but for the colours of `paint`: names and words of guests cannot steer a terminal, nor pass for lines of ours.
 */
export interface Output {
  /** True when results are wanted as JSON. */
  readonly json: boolean;
  /** One line; a line feed at its start stands for an empty line before it. */
  line(text?: string): void;
  note(text: string): void;
  /** Prints `value` as JSON, or calls `human` when people read. */
  result(value: unknown, human: () => void): void;
  paint(style: Style, text: string): string;
  /** A part of a text of many lines, such as a console's. Resolves when the reader is ready for more. */
  part(text: string): Promise<void>;
  /** The same as it came. Throws CliError `cli_usage` on a terminal. */
  raw(text: string): Promise<void>;
}

export interface OutputOptions {
  readonly stdout: Writable & { isTTY?: boolean };
  readonly stderr: Writable;
  readonly env: NodeJS.ProcessEnv;
  readonly json: boolean;
}

export function createOutput({ stdout, stderr, env, json }: OutputOptions): Output {
  const isTerminal = stdout.isTTY === true;
  const hasColours = isTerminal && !env["NO_COLOR"] && env["TERM"] !== "dumb";
  return {
    json,
    line: (text = "") => void stdout.write(`${shownLine(text)}\n`),
    note: (text) => void stderr.write(`${shownLine(text)}\n`),
    result(value, human) {
      if (json) stdout.write(`${plainJson(value, 2)}\n`);
      else human();
    },
    paint(style, text) {
      const plain = shownLine(text);
      return hasColours ? styleText(style, plain, { validateStream: false }) : plain;
    },
    part: (text) => write(stdout, json ? text : plainText(text)),
    async raw(text) {
      if (isTerminal) {
        throw new CliError("cli_usage", "what a machine wrote is not shown raw on a terminal", {
          hint: "Leave out --raw, or send the output into a file or another program.",
        });
      }
      await write(stdout, text);
    },
  };
}

function write(stream: Writable, text: string): Promise<void> {
  return new Promise((resolve) => {
    if (stream.write(text)) resolve();
    else stream.once("drain", () => resolve());
  });
}

/** The colours that `paint` uses, and their ends. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are how a terminal is told
const ownColours = /(\u001b\[(?:1|2|22|3[1-6]|39|90)m)/;

/** A line as it is printed: plain, but for our own colours. */
function shownLine(text: string): string {
  const start = /^\n*/.exec(text)?.[0] ?? "";
  const parts = text.slice(start.length).split(ownColours);
  return (
    start + parts.map((part, at) => (at % 2 === 1 ? part : plainText(part).replaceAll("\n", " "))).join("")
  );
}
