import { expect, test } from "vitest";
import { aPayload } from "../../test/builders/payload.ts";
import { consoleTail } from "./console-tail.ts";

const payload = aPayload();

test("terminal sequences and control characters are removed, line ends made equal", () => {
  const text = "\u001b[1;31mred\u001b[0m\u0007\r\nnext\rlast\u001b]0;title\u0007!\u0000\u009b";

  expect(consoleTail(text, payload, "machine-token-1")).toBe("red\nnext\nlast!");
});

test("secrets are masked, also when colours are put into their midst, and the machine's own token too", () => {
  const coloured = "masked-secret-\u001b[31mof-the-job";

  const words = consoleTail(
    `${coloured}\ntoken ${payload.token}\nmine machine-token-1\n`,
    payload,
    "machine-token-1",
  );

  expect(words).toBe("[MASKED]\ntoken [MASKED]\nmine [MASKED]");
});

test("the first line is dropped when the console was cut, since it may hold half a secret", () => {
  const cut = `secret-of-the-job\n${"x\n".repeat(8_192)}end\n`;

  expect(consoleTail(cut, payload, "machine-token-1")).not.toContain("secret-of-the-job");
});

test("only the last lines are kept, none of them endless", () => {
  const lines = Array.from({ length: 50 }, (_, index) => `line ${index} ${"y".repeat(1_000)}`);

  const words = consoleTail(lines.join("\n").slice(0, 16_000), payload, "machine-token-1").split("\n");

  expect(words.length).toBeLessThanOrEqual(20);
  expect(Math.max(...words.map((line) => line.length))).toBeLessThanOrEqual(240);
});
