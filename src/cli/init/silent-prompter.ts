import { plainText } from "../../base/text.ts";
import { CliError } from "../errors.ts";
import type { Output } from "../output.ts";
import type { Prompter, Question } from "./prompter.ts";

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
