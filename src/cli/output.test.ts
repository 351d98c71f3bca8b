import { PassThrough } from "node:stream";
import { describe, expect, test } from "vitest";
import { cellText, clockTime } from "./messages.ts";
import { createOutput } from "./output.ts";

function open(options: { isTTY?: boolean; env?: NodeJS.ProcessEnv; json?: boolean } = {}) {
  const stdout = Object.assign(new PassThrough(), { isTTY: options.isTTY === true });
  const stderr = new PassThrough();
  const output = createOutput({ stdout, stderr, env: options.env ?? {}, json: options.json === true });
  return { output, written: () => String(stdout.read() ?? ""), noted: () => String(stderr.read() ?? "") };
}

const evil = "\u001b[2Jgone\u0007 \u001b]0;title\u0007line\n\tnext";

describe("output", () => {
  test("is coloured on a terminal only, and never with NO_COLOR or on a dumb one", () => {
    const painted = (options: Parameters<typeof open>[0]) => open(options).output.paint("red", "x");

    expect(painted({ isTTY: true })).not.toBe("x");
    expect(painted({})).toBe("x");
    expect(painted({ isTTY: true, env: { NO_COLOR: "1" } })).toBe("x");
    expect(painted({ isTTY: true, env: { TERM: "dumb" } })).toBe("x");
  });

  test("gives results as JSON or in words, and notes apart from them", () => {
    const { output, written, noted } = open({ json: true });
    output.result({ a: 1 }, () => output.line("words"));
    output.note("by the way");

    expect(JSON.parse(written())).toEqual({ a: 1 });
    expect(noted()).toBe("by the way\n");
  });

  test("a console cannot drive a terminal, nor one behind a pipe", async () => {
    for (const isTTY of [true, false]) {
      const { output, written } = open({ isTTY });
      await output.part(evil);
      // A sequence may come in two parts.
      for (const part of ["a\u001b]52;c;", "ZXZpbA==\u0007b"]) await output.part(part);

      expect(written()).toBe("gone line\n\tnextaZXZpbA==b");
    }
  });

  test("what a machine wrote is given raw into a file, and not on a terminal", async () => {
    const [terminal, file] = [open({ isTTY: true }), open()];
    await file.output.raw(evil);

    expect(file.written()).toBe(evil);
    await expect(terminal.output.raw(evil)).rejects.toMatchObject({ code: "cli_usage" });
    expect(terminal.written()).toBe("");
  });

  test.each([true, false])("a line is one line and plain but for our own colours (terminal: %s)", (isTTY) => {
    const { output, written, noted } = open({ isTTY, env: { TERM: "xterm" } });
    const name = `job\u001b[8m\u001b]52;c;eA==\u0007\u202e\n99 success\u009b2J`;
    output.line(output.paint("red", name));
    output.line(`a ${name}`);
    output.note(name);
    const red = isTTY ? ["\u001b[31m", "\u001b[39m"] : ["", ""];

    expect(written()).toBe(`${red.join("job 99 success2J")}\na job 99 success2J\n`);
    expect(noted()).toBe("job 99 success2J\n");
  });

  test("JSON stays data, and what could steer a terminal is escaped in it", () => {
    const { output, written } = open({ json: true });
    const value = { name: "\u001b[8m\u202e\u009b2J\nx" };
    output.result(value, () => {});
    const text = written();

    expect(JSON.parse(text)).toEqual(value);
    expect(text.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Cf}]/u);
  });

  test("waits for a slow reader", async () => {
    const { output, written } = open();
    const big = "x".repeat(1_000_000);
    let done = false;
    const writing = output.part(big).then(() => {
      done = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect(done).toBe(false);

    expect(written()).toHaveLength(big.length);
    await writing;
    expect(done).toBe(true);
  });
});

describe("cells", () => {
  test("cells are one short line", () => {
    expect(cellText("two\nlines\u001b[31m red")).toBe("two lines red");
    expect(cellText("x".repeat(100), 10)).toBe(`${"x".repeat(9)}…`);
  });

  test("times carry the date when it is not today's", () => {
    const noon = new Date(2026, 4, 7, 12, 30, 5).getTime();

    expect(clockTime(noon, noon)).toBe("12:30:05");
    expect(clockTime(noon, noon + 48 * 3_600_000)).toBe("2026-05-07 12:30:05");
  });
});
