import type { Prompter } from "../../src/cli/init/prompter.ts";
import type { Finding } from "../../src/operations/doctor/findings.ts";

export interface ScriptedAsker extends Prompter {
  /** The options of the questions that were asked, in order. */
  readonly asked: string[];
  readonly shown: Finding[];
}

/** Answers each question by its option's name, with the next of its answers; an answer may be an error to throw. */
export function scriptedAsker(answers: Readonly<Record<string, readonly unknown[]>>): ScriptedAsker {
  const left = new Map(Object.entries(answers).map(([option, list]) => [option, [...list]]));
  const asked: string[] = [];
  const shown: Finding[] = [];
  async function next(option: string): Promise<unknown> {
    asked.push(option);
    const list = left.get(option);
    if (!list || list.length === 0) throw new Error(`nobody has an answer for “${option}”`);
    const answer = list.shift();
    if (answer instanceof Error) throw answer;
    return answer;
  }
  /** As a terminal does: what cannot be right is asked for again. */
  async function nextGood(option: string, problem?: (text: string) => string | undefined): Promise<string> {
    for (;;) {
      const text = (await next(option)) as string;
      const words = problem?.(text);
      if (words === undefined) return text;
      shown.push({ level: "fail", message: words });
    }
  }
  return {
    asked,
    shown,
    canAsk: true,
    text: ({ option, problem }) => nextGood(option, problem),
    secret: ({ option, problem }) => nextGood(option, problem),
    choose: async ({ option, choices }) => {
      const value = await next(option);
      const choice = choices.find((each) => each.value === value);
      if (!choice) throw new Error(`“${String(value)}” cannot be chosen`);
      return choice.value;
    },
    confirm: async ({ option }) => (await next(option)) as boolean,
    show: (finding) => void shown.push(finding),
    note: () => undefined,
  };
}
