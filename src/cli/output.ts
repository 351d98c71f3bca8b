import type { Writable } from "node:stream";
import { styleText } from "node:util";
import { describeError, FireRunnerError } from "../base/errors.ts";
import { type Column, formatTable } from "../base/table.ts";
import { plainJson, plainText, USUAL_WIDTH, wrapped } from "../base/text.ts";
import { CliError } from "./errors.ts";

type Style = Parameters<typeof styleText>[0];

/**
 * Where a command writes. Results go to `out`, everything about them to `err`, so that pipes get results alone. Whatever is printed is
 * plain but for the colours of `paint`: names and words of guests cannot steer a terminal, nor pass for lines of ours.
 */
export interface Output {
  /** True when results are wanted as JSON. */
  readonly json: boolean;
  /**
   * A sentence, in as many lines as it takes on this screen; the next ones begin where `hang` says (base/wrap.ts). A line feed at its start
   * stands for an empty line before it.
   */
  line(text?: string, hang?: Hang): void;
  /** One line as it is, however long: what is to be read by a program, too. */
  exact(text: string): void;
  /** A table that fits this screen. */
  table(columns: readonly Column[], rows: readonly (readonly string[])[]): void;
  note(text: string, hang?: Hang): void;
  /** Prints `value` as JSON, or calls `human` when people read. */
  result(value: unknown, human: () => void): void;
  paint(style: Style, text: string): string;
  /** A part of a text of many lines, such as a console's. Resolves when the reader is ready for more. */
  part(text: string): Promise<void>;
  /** The same as it came. Throws CliError `cli_usage` on a terminal. */
  raw(text: string): Promise<void>;
}

/** Columns to the right at which the lines after the first begin, and at least where a word has no room behind so many. */
type Hang = number | readonly [hang: number, least: number];

/** A terminal, or what stands in its place: then it counts as 80 columns wide, so that the same words always give the same lines. */
export type ScreenStream = Writable & { isTTY?: boolean; columns?: number };

interface OutputOptions {
  readonly stdout: ScreenStream;
  readonly stderr: ScreenStream;
  readonly env: NodeJS.ProcessEnv;
  readonly json: boolean;
}

export function createOutput({ stdout, stderr, env, json }: OutputOptions): Output {
  const isTerminal = stdout.isTTY === true;
  const isColoured = hasColours(stdout, env);
  return {
    json,
    line: (text = "", hang) => writeLines(stdout, shownLine(text), hang),
    exact: (text) => void stdout.write(`${shownLine(text)}\n`),
    table(columns, rows) {
      const shown = rows.map((row) => row.map(shownLine));
      for (const line of formatTable(columns, shown, screenWidth(stdout))) stdout.write(`${line}\n`);
    },
    note: (text, hang) => writeLines(stderr, shownLine(text), hang),
    result(value, human) {
      if (json) stdout.write(`${plainJson(value, 2)}\n`);
      else human();
    },
    paint(style, text) {
      const plain = shownLine(text);
      return isColoured ? styleText(style, plain, { validateStream: false }) : plain;
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

export function hasColours({ isTTY }: ScreenStream, env: NodeJS.ProcessEnv): boolean {
  return isTTY === true && !env["NO_COLOR"] && env["TERM"] !== "dumb";
}

/** Of a terminal that does not tell, and of anything else, as it is usual. */
export function screenWidth({ isTTY, columns }: ScreenStream): number {
  return (isTTY === true && columns) || USUAL_WIDTH;
}

/** Each line of the text in as many lines as it takes; it is plain already. */
export function writeLines(stream: ScreenStream, text: string, hang: Hang | undefined = undefined): void {
  const [deep, least] = typeof hang === "object" ? hang : [hang, undefined];
  for (const each of text.split("\n"))
    for (const line of wrapped(each, screenWidth(stream), deep, least)) stream.write(`${line}\n`);
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

/** The end of every failed command: what went wrong and what to do, or, for a fault of our own, where it happened. */
export function printError(
  error: unknown,
  { stderr, argv }: { readonly stderr: ScreenStream; readonly argv: readonly string[] },
): void {
  if (argv.includes("--json")) {
    stderr.write(`${plainJson(asProblem(error))}\n`);
    return;
  }
  if (!(error instanceof FireRunnerError)) {
    const trace = error instanceof Error ? (error.stack ?? error.message) : String(error);
    stderr.write("firerunner: this is a bug in FireRunner, please report it with these lines:\n");
    stderr.write(`${plainText(trace)}\n`);
    return;
  }
  writeLines(stderr, `firerunner: ${plainText(messageOf(error))}`);
  if (error.hint) writeLines(stderr, `  → ${plainText(error.hint)}`);
}

/** The cause is told only where it says more than the message. */
function messageOf(error: FireRunnerError): string {
  const full = describeError(error);
  const cause = error.cause === undefined ? "" : describeError(error.cause);
  const isTold =
    error.code.startsWith("config_") || error.code.startsWith("cli_") || error.message.includes(cause);
  return isTold ? error.message : full;
}

function asProblem(error: unknown): { code: string; message: string; hint: string | null } {
  if (error instanceof FireRunnerError) {
    return { code: error.code, message: messageOf(error), hint: error.hint ?? null };
  }
  return { code: "internal", message: describeError(error), hint: "This is a bug in FireRunner." };
}
