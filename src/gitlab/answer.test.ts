import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { backoffMs } from "../base/rates.ts";
import { messageOf, requestedWaitMs } from "./answer.ts";

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

const now = Date.parse("2026-01-01T00:00:00Z");
const inTenSeconds = "Thu, 01 Jan 2026 00:00:10 GMT";

describe("requestedWaitMs", () => {
  test.each([
    [503, { "retry-after": "60" }, 60_000],
    [503, { "retry-after": inTenSeconds }, 10_000],
    [429, { "ratelimit-resettime": inTenSeconds }, 10_000],
    [429, { "ratelimit-reset": String(now / 1_000 + 30) }, 30_000],
    [429, { "retry-after": "5", "ratelimit-reset": String(now / 1_000 + 30) }, 30_000],
    [503, { "ratelimit-reset": String(now / 1_000 + 30) }, 0],
    [503, {}, 0],
    [503, { "retry-after": "soon" }, 0],
    [503, { "retry-after": "-5" }, 0],
    [503, { "retry-after": "Thu, 01 Jan 2015 00:00:00 GMT" }, 0],
    [503, { "retry-after": "99999999999" }, 3_600_000],
  ])("%i with %j", (status, headers, expected) => {
    expect(requestedWaitMs(status, headers, now)).toBe(expected);
  });
});

describe("backoffMs", () => {
  const limits = { baseMs: 500, capMs: 30_000 };

  test("doubles from half the base, and ends at the cap", () => {
    const shortest = [1, 2, 3, 4, 20, 5_000].map((failures) => backoffMs(failures, () => 0, limits));

    expect(shortest).toEqual([250, 500, 1_000, 2_000, 15_000, 15_000]);
  });

  test("stays between half of the full wait and the cap", () => {
    const fraction = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 1e6 }), fraction, (failures, random) => {
        const waitMs = backoffMs(failures, () => random, limits);

        expect(waitMs).toBeGreaterThanOrEqual(250);
        expect(waitMs).toBeLessThanOrEqual(30_000);
      }),
    );
  });
});
