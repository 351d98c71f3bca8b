import { expect, test } from "vitest";
import { createLogLines } from "./observer.ts";
import { createScreen } from "./screen.ts";

function lines(...parts: string[]): string[] {
  const reader = createLogLines();
  return [...parts.flatMap((part) => reader.push(Buffer.from(part))), ...reader.end()];
}

test.each([
  ["whole lines, also when they come in parts", ["on", "e\ntw", "o\n"], ["one", "two"]],
  ["the last without its end", ["one"], ["one"]],
  [
    "no colours and no section marks",
    ["section_start:1:step_script\r\u001b[0K\u001b[32;1m$ go\u001b[0;m\n"],
    ["$ go"],
  ],
  ["of an overwritten line the last state", ["10%\r50%\r100%\n"], ["100%"]],
  ["nothing that steers a terminal", ["a\u001b]0;title\u0007b\u0008\u0000\n"], ["ab"]],
  ["no empty lines", ["\n\n\u001b[0m\n"], []],
])("a job's log is shown as lines: %s", (_name, parts, expected) => {
  expect(lines(...parts)).toEqual(expected);
});

test("characters cut in two by a chunk stay whole", () => {
  const bytes = Buffer.from("ö\n");
  const reader = createLogLines();

  expect([...reader.push(bytes.subarray(0, 1)), ...reader.push(bytes.subarray(1))]).toEqual(["ö"]);
});

test("on a terminal the foot is drawn again below each line", () => {
  const written: string[] = [];
  const screen = createScreen({ write: (text) => written.push(text), isTTY: true, columns: 20 });
  screen.startFoot(() => ["foot one", "x".repeat(40)]);
  screen.print("line");
  screen.stopFoot();

  expect(written.join("")).toContain("line\n");
  expect(written.filter((text) => text.includes("foot one"))).toHaveLength(2);
  expect(written.join("")).toContain(`${"x".repeat(18)}…`);
  expect(written.at(-1)).toBe("\u001b[1A\u001b[2K\u001b[1A\u001b[2K\r");
});

test("elsewhere only the lines are written, without colours", () => {
  const written: string[] = [];
  const screen = createScreen({ write: (text) => written.push(text) });
  screen.startFoot(() => ["foot"]);
  screen.print(screen.bad("line"));
  screen.stopFoot();

  expect(written).toEqual(["line\n"]);
});

test.each([true, false])("a name in a line steers no terminal (a terminal: %s)", (isTTY) => {
  const written: string[] = [];
  const screen = createScreen({ write: (text) => written.push(text), isTTY, columns: 80 });
  const name = "job\u001b[2J\u001b]0;title\u0007\u001b[32m✓\r\nall passed\u202e\u009b1m";
  screen.print(`  ${screen.bad(name)}  ${name}`);
  screen.startFoot(() => [name]);
  screen.stopFoot();

  const [line, foot] = written;
  const plain = "job✓ all passed1m";
  expect(line).toBe(isTTY ? `  \u001b[31;1m${plain}\u001b[0m  ${plain}\n` : `  ${plain}  ${plain}\n`);
  expect(foot).toBe(isTTY ? `${plain}\n` : undefined);
});

test("a sentence is broken for the screen, a line of a log is not", () => {
  const written: string[] = [];
  const screen = createScreen({ write: (text) => written.push(text), isTTY: true, columns: 24 });
  screen.print(`${screen.good("✓")} nothing is left of any machine`);
  screen.exact("job │ nothing is left of any machine");

  expect(written).toEqual([
    "\u001b[32m✓\u001b[0m nothing is left of any\n  machine\n",
    "job │ nothing is left of any machine\n",
  ]);
});
