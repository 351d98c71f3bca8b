import type { Finding } from "../../operations/doctor/check.ts";

export interface Question {
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
