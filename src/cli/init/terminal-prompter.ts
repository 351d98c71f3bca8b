import type { Readable, Writable } from "node:stream";
import { confirm, isCancel, log, password, select, text } from "@clack/prompts";
import { plainText } from "../../base/text.ts";
import type { Prompter } from "./prompter.ts";
import { canceled } from "./prompter.ts";

export interface Terminal {
  readonly input: Readable;
  readonly output: Writable;
  readonly signal: AbortSignal;
}

/** Asks on a terminal. Ctrl-C and Escape leave, as an aborted signal does. */
export function createTerminalPrompter(terminal: Terminal): Prompter {
  const { output } = terminal;
  return {
    canAsk: true,
    text: async ({ message, initial, placeholder, problem }) =>
      answered(
        await text({
          ...terminal,
          message,
          ...(initial === undefined ? {} : { initialValue: initial }),
          ...(placeholder === undefined ? {} : { placeholder }),
          validate: (value) => problemOf(value, problem),
        }),
      ).trim(),
    secret: async ({ message, problem }) =>
      answered(
        await password({ ...terminal, message, validate: (value) => problemOf(value, problem) }),
      ).trim(),
    choose: async ({ message, choices }) => {
      const options = choices.map(({ value, label, hint }) => ({
        value: value as string,
        label,
        ...(hint === undefined ? {} : { hint }),
      }));
      const chosen = answered(await select<string>({ ...terminal, message, options }));
      const choice = choices.find(({ value }) => value === chosen);
      if (choice === undefined) throw canceled();
      return choice.value;
    },
    confirm: async ({ message, initial }) =>
      answered(await confirm({ ...terminal, message, initialValue: initial })),
    show({ level, message, hint }) {
      const words = plainText(hint === undefined ? message : `${message}\n→ ${hint}`);
      const write = { ok: log.success, warn: log.warn, fail: log.error }[level];
      write(words, { output });
    },
    note: (words) => log.message(plainText(words), { output }),
  };
}

function problemOf(
  value: string | undefined,
  problem: ((text: string) => string | undefined) | undefined,
): string | undefined {
  const given = (value ?? "").trim();
  return given === "" ? "Please answer, or leave with Ctrl-C." : problem?.(given);
}

function answered<Value>(answer: Value): Exclude<Value, symbol> {
  if (isCancel(answer)) throw canceled();
  return answer as Exclude<Value, symbol>;
}
