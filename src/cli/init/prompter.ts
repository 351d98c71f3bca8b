/** Who answers the questions of `init`: the port, what stands in where nobody can be asked, and what becomes of what was found. */

import { plainText } from "../../base/text.ts";
import type { Finding } from "../../operations/doctor/findings.ts";
import type { SetupChecks } from "../../operations/setup-checks.ts";
import { CliError } from "../errors.ts";
import type { Output } from "../output.ts";

interface Question {
  readonly message: string;
  /** How to answer without being asked: the option's name, for where nobody can be asked. */
  readonly option: string;
}

/** Asks people. Every question throws CliError: `cli_canceled` when they want to leave, `cli_usage` where there is nobody. */
export interface Prompter {
  /** False: every question throws. */
  readonly canAsk: boolean;
  /** `problem` says in words why an answer cannot be right. */
  text(
    question: Question & {
      readonly initial?: string;
      readonly placeholder?: string;
      readonly problem?: (text: string) => string | undefined;
    },
  ): Promise<string>;
  /** What is typed is not shown. */
  secret(question: Question & { readonly problem?: (text: string) => string | undefined }): Promise<string>;
  choose<Value extends string>(
    question: Question & {
      readonly choices: readonly { readonly value: Value; readonly label: string; readonly hint?: string }[];
    },
  ): Promise<Value>;
  confirm(question: Question & { readonly initial: boolean }): Promise<boolean>;
  show(finding: Finding): void;
  note(text: string): void;
}

/** Who is asked, what checks the answers, and how long. */
export interface Questions {
  readonly asker: Prompter;
  readonly checks: SetupChecks;
  readonly signal: AbortSignal;
}

/** For where there is no terminal: whatever is not given as an option is missed, by the option's name. */
export function createSilentPrompter(output: Output): Prompter {
  const missing = async ({ message, option }: Question): Promise<never> => {
    throw new CliError("cli_usage", `there is no terminal to ask “${message}” on`, {
      hint: `Answer with ${option}; “firerunner init --help” lists all options.`,
    });
  };
  return {
    canAsk: false,
    text: missing,
    secret: missing,
    choose: missing,
    confirm: missing,
    show({ level, message, hint }) {
      // A failure ends the command, and is told then.
      if (level === "fail") return;
      output.note(plainText(`${level.padEnd(4)}  ${message}`), 6);
      if (hint !== undefined) output.note(plainText(`      → ${hint}`));
    },
    note: (text) => output.note(plainText(text)),
  };
}

/** False when it has to be asked again. What to make of a warning is for a person to say, where there is one. */
export async function isAccepted(findings: readonly Finding[], asker: Prompter): Promise<boolean> {
  if (findings.some(({ level }) => level === "fail")) {
    failUnlessAsked(findings, asker);
    return false;
  }
  if (!asker.canAsk || findings.every(({ level }) => level === "ok")) return true;
  return await asker.confirm({ message: "Go on with it all the same?", option: "", initial: true });
}

/** Throws `cli_setup` with what is wrong, where nobody can be asked for something better. */
export function failUnlessAsked(findings: readonly Finding[], asker: Prompter): void {
  if (asker.canAsk) return;
  const failed = findings.filter(({ level }) => level === "fail");
  const hints = new Set(failed.flatMap(({ hint }) => hint ?? []));
  throw new CliError(
    "cli_setup",
    failed.map(({ message }) => message).join("; "),
    hints.size === 0 ? {} : { hint: [...hints].join(" ") },
  );
}

/** Whoever was asked does not want to go on. */
export function canceled(): CliError {
  return new CliError("cli_canceled", "left before the end; nothing was written");
}
