import { expect, test } from "vitest";
import { newSigningKey, signingKeyProblem } from "./webhook-signature.ts";

test("new keys are well formed, and no two are the same", () => {
  const keys = Array.from({ length: 50 }, () => newSigningKey().reveal());

  expect(keys.map(signingKeyProblem)).toEqual(keys.map(() => undefined));
  expect(new Set(keys).size).toBe(50);
});

const keyOf = (bytes: number) => `whsec_${Buffer.alloc(bytes, 3).toString("base64")}`;

test.each([
  ["", "begins with whsec_"],
  ["glpat-abcdefgh", "begins with whsec_"],
  [` ${keyOf(32)}`, "begins with whsec_"],
  [`${keyOf(32)}\n`, "not base64"],
  ["whsec_", "32 bytes, not 0"],
  [keyOf(24), "32 bytes, not 24"],
  [keyOf(33), "32 bytes, not 33"],
  ["whsec_neither this nor that!", "not base64"],
  [keyOf(32).replace("=", ""), "not base64"],
])("%j is no signing token", (text, words) => {
  const problem = signingKeyProblem(text);

  expect(problem).toContain(words);
  if (text.length > 20) expect(problem).not.toContain(text.slice(-10, -1));
});
