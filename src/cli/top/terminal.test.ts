import { PassThrough } from "node:stream";
import { expect, test } from "vitest";
import { openTerminal } from "./terminal.ts";

function open() {
  const writes: string[] = [];
  const stdout = Object.assign(new PassThrough(), { isTTY: true, columns: 80, rows: 24 });
  stdout.write = (text: string) => writes.push(text) > 0;
  const raw: boolean[] = [];
  const stdin = Object.assign(new PassThrough(), {
    isTTY: true,
    setRawMode: (isRaw: boolean) => raw.push(isRaw),
  });
  const seen: string[] = [];
  const terminal = openTerminal({
    ...{ stdin, stdout, onResize: () => seen.push("resize"), onEnd: () => seen.push("end") },
    onKey: ({ name = "" }) => seen.push(name),
  });
  writes.length = 0;
  return { terminal, stdin, stdout, writes, raw, seen };
}

test("a screen is one write of the lines that have changed", () => {
  const { terminal, writes } = open();

  terminal.draw(["one", "two", "three"]);
  terminal.draw(["one", "two", "three"]);
  terminal.draw(["one", "zwei", "three"]);

  expect(writes).toHaveLength(2);
  expect(writes[0]).toContain("three");
  expect(writes[1]).toBe("\u001b[2;1H\u001b[2Kzwei");
});

test("after a change of size all of it is drawn anew", () => {
  const { terminal, stdout, writes, seen } = open();
  terminal.draw(["one"]);

  stdout.emit("resize");
  terminal.draw(["one"]);

  expect(seen).toEqual(["resize"]);
  expect(writes.at(-1)).toContain("one");
});

test("keys come with their names, and the terminal is given back as it was", async () => {
  const { terminal, stdin, writes, raw, seen } = open();

  stdin.write("q\u001b[A\t");
  await expect.poll(() => seen).toEqual(["q", "up", "tab"]);
  terminal[Symbol.dispose]();
  stdin.write("q");
  terminal.draw(["what came too late"]);

  expect(raw).toEqual([true, false]);
  expect(writes.at(-1)).toBe("\u001b[?7h\u001b[?25h\u001b[?1049l");
  expect(seen).toHaveLength(3);
});
