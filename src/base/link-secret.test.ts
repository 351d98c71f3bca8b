import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { isLinkSecret, linkHashOf, newLinkSecret } from "./secret.ts";

test("a secret opens by its own hash alone, and nothing opens where none is kept", () => {
  const [one, other] = [newLinkSecret(randomBytes).reveal(), newLinkSecret(randomBytes).reveal()];

  expect(one).toMatch(/^[0-9a-f]{64}$/);
  expect(isLinkSecret(one, linkHashOf(one))).toBe(true);
  expect(isLinkSecret(other, linkHashOf(one))).toBe(false);
  expect(isLinkSecret(one, undefined)).toBe(false);
  expect(isLinkSecret("", undefined)).toBe(false);
});
