import { randomBytes } from "node:crypto";
import { inspect } from "node:util";
import { pino } from "pino";
import { describe, expect, test } from "vitest";
import { isLinkSecret, linkHashOf, newLinkSecret, Secret } from "./secret.ts";

describe("secret", () => {
  const secret = new Secret("glrt-very-secret");

  test("gives its text only when asked to reveal it", () => {
    expect(secret.reveal()).toBe("glrt-very-secret");
  });

  test.each([
    ["in a string", () => `token ${secret}`],
    ["joined to a string", () => ["token", secret].join(" ")],
    ["as JSON", () => JSON.stringify({ secret })],
    ["inspected", () => inspect({ deep: { secret } }, { depth: 9, showHidden: true })],
    ["listed", () => Object.entries(secret).join() + Object.keys(secret).join()],
    ["copied", () => JSON.stringify({ ...secret })],
    ["in an error", () => String(new Error(`wrong token ${secret}`))],
  ])("does not show %s", (_how, print) => {
    expect(print()).not.toContain("very-secret");
  });

  test("does not show in a log record", () => {
    const lines: string[] = [];
    const log = pino({}, { write: (line) => lines.push(line) });

    log.info({ secret, pool: { token: secret } }, "a record");

    expect(lines.join()).toContain("[secret]");
    expect(lines.join()).not.toContain("very-secret");
  });
});

test("a secret opens by its own hash alone, and nothing opens where none is kept", () => {
  const [one, other] = [newLinkSecret(randomBytes).reveal(), newLinkSecret(randomBytes).reveal()];

  expect(one).toMatch(/^[0-9a-f]{64}$/);
  expect(isLinkSecret(one, linkHashOf(one))).toBe(true);
  expect(isLinkSecret(other, linkHashOf(one))).toBe(false);
  expect(isLinkSecret(one, undefined)).toBe(false);
  expect(isLinkSecret("", undefined)).toBe(false);
});
