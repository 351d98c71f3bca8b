import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { messageOf } from "./answer.ts";

function said(body: unknown): string {
  return messageOf({ status: 400, headers: {}, text: JSON.stringify(body) ?? "", cut: undefined });
}

test.each<[unknown, string]>([
  [{ message: "403 Forbidden" }, "403 Forbidden"],
  [{ error: "404 Project Not Found" }, "404 Project Not Found"],
  [{ message: ["one", "two"] }, "one, two"],
  [{ message: { base: ["Maximum number exceeded"] } }, "base Maximum number exceeded"],
  [{ message: { error: "Try again later." } }, "error Try again later."],
  [
    { error: "insufficient_scope", error_description: "Higher privileges.", scope: "api read_api" },
    "insufficient_scope, Higher privileges., scope api read_api",
  ],
  [{ message: "twice", error: "twice" }, "twice"],
  [{ message: "a\nforged log line\u001b[31m" }, "a forged log line [31m"],
  [{ message: { a: { b: { c: { d: { e: "too deep" } } } } } }, ""],
  [{ message: null, error: true }, ""],
  ["text", ""],
  [null, ""],
])("%j says: %s", (body, words) => {
  expect(said(body)).toBe(words);
});

test("is cut to a length that fits a line", () => {
  expect(said({ message: "long ".repeat(10_000) }).length).toBeLessThan(310);
});

test("says nothing of what is no JSON", () => {
  expect(messageOf({ status: 400, headers: {}, text: "<html>", cut: undefined })).toBe("");
});

describe("tokens", () => {
  const prefix = fc.constantFrom(
    "glpat-",
    "glrt-",
    "glrtr-",
    "glcbt-",
    "gldt-",
    "glptt-",
    "whsec_",
    "GR1348941",
  );
  const tail = fc.stringMatching(/^[A-Za-z0-9_.+/=-]{8,60}$/);

  test("do not survive, wherever they stand", () => {
    fc.assert(
      fc.property(prefix, tail, fc.boolean(), (start, rest, isNested) => {
        const text = `it was "${start}${rest}", really`;
        const words = said({ message: isNested ? { token: [text] } : text });

        expect(words).not.toContain(rest);
        expect(words).toContain("[secret]");
      }),
    );
  });

  test("are not seen where there are none", () => {
    expect(said({ message: "global-runner and glossy-finish" })).toBe("global-runner and glossy-finish");
  });
});
