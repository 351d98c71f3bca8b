import { describe, expect, test } from "vitest";
import { escapeUnseen, oneLine, plainJson, plainText } from "./text.ts";

const hostile: readonly [what: string, text: string, plain: string][] = [
  ["colours", "a\u001b[31mred\u001b[0;39mb", "aredb"],
  ["a cursor that goes up", "a\u001b[1A\u001b[2Kb", "ab"],
  ["a clipboard that is written", "a\u001b]52;c;ZXZpbA==\u0007b", "ab"],
  ["one that ends in the other way", "a\u001b]52;c;ZXZpbA==\u001b\\b", "ab"],
  ["a link", "\u001b]8;;https://evil.example\u001b\\text\u001b]8;;\u001b\\", "text"],
  ["a device string", "a\u001bP1$r0m\u001b\\b", "ab"],
  ["a title that never ends", "a\u001b]0;title\nnext", "a\nnext"],
  ["a reset", "a\u001bcb", "ab"],
  ["a character set", "a\u001b(0b", "ab"],
  ["the controls of the second block", "a\u009b31mb\u009d52;c;x\u009cc\u0090d", "a31mb52;c;xcd"],
  ["bells and backspaces", "a\u0007\b\u0000\u007fb", "ab"],
  ["bidi", "a\u202eb\u2066c\u2069\u200fd\u061c", "abcd"],
  ["letters without a form", "a\u200bb\u2060c\ufeffd\u00ade\u3164f\u{e0041}g", "abcdefg"],
  ["half a letter", "a\ud800b", "ab"],
  ["other line ends", "a\r\nb\rc\u0085d\u2028e\u2029f", "a\nb\nc\nd\ne\nf"],
  ["an escape alone at the end", "a\u001b", "a"],
];

describe("text for people", () => {
  test.each(hostile)("is without %s", (_what, text, plain) => {
    expect(plainText(text)).toBe(plain);
  });

  test("keeps what people write", () => {
    const text = "Übung №1\t“fin” 日本語 שלום 😀 naïve → ok\n";

    expect(plainText(text)).toBe(text);
  });

  test("in one line cannot look like two", () => {
    expect(oneLine(" job\r\n12:00 job 7 ended: success\u2028\tx ")).toBe("job 12:00 job 7 ended: success x");
  });

  test("has no sequence left that its parts could make", () => {
    const nested = "\u001b\u001b[31m[31mx\u001b\u001b]52;c;\u0007]52;c;y\u0007";

    expect(plainText(nested)).not.toMatch(/\p{Cc}/u);
  });
});

describe("JSON that a terminal may show", () => {
  test.each(hostile)("means the same and shows no %s", (_what, text) => {
    const json = plainJson({ [text]: [text] }, 2);

    expect(JSON.parse(json)).toEqual({ [text]: [text] });
    expect(json.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u);
    expect(escapeUnseen(json)).toBe(json);
  });
});
