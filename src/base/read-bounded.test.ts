import { describe, expect, test } from "vitest";
import { readBounded, readWhole, TooLongError } from "./read-bounded.ts";

async function* stream(pieces: readonly string[], end?: Error): AsyncGenerator<Uint8Array> {
  for (const piece of pieces) yield Buffer.from(piece);
  if (end) throw end;
}

const reset = new Error("the connection was cut");

describe("a bounded read", () => {
  test.each([
    { what: "nothing", pieces: [], end: undefined, text: "", cut: undefined },
    {
      what: "just as much as may be",
      pieces: ["ab", "cd", "ef"],
      end: undefined,
      text: "abcdef",
      cut: undefined,
    },
    { what: "a byte more", pieces: ["ab", "cdefg"], end: undefined, text: "ab", cut: new TooLongError(6) },
    { what: "a stream that breaks", pieces: ["abc"], end: reset, text: "abc", cut: reset },
  ])("of $what", async ({ pieces, end, text, cut }) => {
    const read = await readBounded(stream(pieces, end), 6);

    expect([read.bytes.toString(), read.cut]).toEqual([text, cut]);
    const whole = readWhole(stream(pieces, end), 6);
    if (cut === undefined) expect((await whole).toString()).toBe(text);
    else await expect(whole).rejects.toThrow(cut);
  });

  test("ends when somebody will not have a piece, and leaves the rest unread", async () => {
    let yielded = 0;
    async function* counted() {
      for (; yielded < 10; yielded++) yield Buffer.from("a");
    }
    const full = new Error("no memory for it");
    const read = readWhole(counted(), 100, () => {
      if (yielded === 2) throw full;
    });

    await expect(read).rejects.toThrow(full);
    expect(yielded).toBe(2);
  });
});
