import { PassThrough } from "node:stream";
import { stripVTControlCharacters } from "node:util";
import { expect, test } from "vitest";
import { createTerminalPrompter } from "./terminal-prompter.ts";

/** A keyboard and a screen. */
function aTerminal() {
  const input = Object.assign(new PassThrough(), { isTTY: true, setRawMode: () => input });
  const output = Object.assign(new PassThrough(), { isTTY: true, columns: 80, rows: 24 });
  let raw = "";
  output.on("data", (chunk: Buffer) => {
    raw += chunk.toString();
  });
  const leaving = new AbortController();
  const asker = createTerminalPrompter({ input, output, signal: leaving.signal });
  return { asker, leaving, screen: () => stripVTControlCharacters(raw), type: typeInto(input, () => raw) };
}

/** Types keys once the question is on the screen, each after the other has been taken. */
function typeInto(input: PassThrough, raw: () => string) {
  return async (question: string, ...keys: string[]) => {
    await expect.poll(raw).toContain(question);
    for (const key of keys) {
      input.write(key);
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
}

const ENTER = "\r";
const DOWN = "\u001b[B";
const CTRL_C = "\u0003";

test("text is typed, checked, and given without the spaces around it", async () => {
  const { asker, screen, type } = aTerminal();
  const answer = asker.text({
    message: "Where?",
    option: "--url",
    problem: (text) => (text === "here" ? undefined : "Not there."),
  });

  await type("Where?", ENTER);
  await expect.poll(screen).toContain("Please answer");
  await type("Where?", ..."her", ENTER);
  await expect.poll(screen).toContain("Not there.");
  await type("Where?", "e", " ", ENTER);

  expect(await answer).toBe("here");
});

test("a secret does not appear on the screen", async () => {
  const { asker, screen, type } = aTerminal();
  const answer = asker.secret({ message: "Token?", option: "--token-file" });

  await type("Token?", ..."glpat-PLANTED", ENTER);

  expect(await answer).toBe("glpat-PLANTED");
  expect(screen()).not.toContain("PLANTED");
});

test("one of several is chosen, and yes or no is said", async () => {
  const { asker, type } = aTerminal();
  const choices = [
    { value: "a", label: "first" },
    { value: "b", label: "second", hint: "better" },
  ] as const;
  const chosen = asker.choose({ message: "Which?", option: "", choices });
  await type("Which?", DOWN, ENTER);
  expect(await chosen).toBe("b");

  const confirmed = asker.confirm({ message: "Really?", option: "", initial: false });
  await type("Really?", "y");
  expect(await confirmed).toBe(true);
});

test.each(["text", "secret", "confirm", "choose"] as const)(
  "Ctrl-C leaves a question for %s",
  async (kind) => {
    const { asker, type } = aTerminal();
    const question = { message: "Well?", option: "", initial: true, choices: [{ value: "a", label: "a" }] };
    const { initial: _initial, ...plain } = question;
    const asked = kind === "confirm" || kind === "choose" ? asker[kind](question) : asker[kind](plain);
    const outcome = expect(asked).rejects.toMatchObject({ code: "cli_canceled" });

    await type("Well?", CTRL_C);

    await outcome;
  },
);

test("a signal leaves a question too", async () => {
  const { asker, leaving, type } = aTerminal();
  const outcome = expect(asker.text({ message: "Well?", option: "" })).rejects.toMatchObject({
    code: "cli_canceled",
  });

  await type("Well?");
  leaving.abort();

  await outcome;
});

test("findings are shown with what to do, and without what could move the cursor", async () => {
  const { asker, screen } = aTerminal();

  asker.show({ level: "fail", message: "not \u001b[2Jso", hint: "do this" });
  asker.note("by the way");

  await expect.poll(screen).toContain("by the way");
  expect(screen()).toContain("not so");
  expect(screen()).toContain("→ do this");
});
