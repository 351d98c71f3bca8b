import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createVault, KEY_BYTES } from "./vault.ts";

describe("vault", () => {
  const key = randomBytes(KEY_BYTES);
  const vault = createVault(key, randomBytes);

  test("opens what it sealed", () => {
    const jobId = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER });
    const payload = fc.string({ unit: "grapheme", maxLength: 500 });

    fc.assert(
      fc.property(
        jobId,
        payload,
        (id, text) => vault.payloads.open(id, vault.payloads.seal(id, text)) === text,
      ),
    );
  });

  test("never seals to the same bytes twice, and shows nothing of the text", () => {
    const first = Buffer.from(vault.payloads.seal(1, "glcbt-secret"));
    const second = Buffer.from(vault.payloads.seal(1, "glcbt-secret"));

    expect(first.equals(second)).toBe(false);
    expect(first.includes("glcbt-secret")).toBe(false);
  });

  test("refuses what was sealed for another job, under another key, was cut or was changed", () => {
    const sealed = vault.payloads.seal(1, "payload");
    const changed = Uint8Array.from(sealed, (byte, index) => (index === sealed.length - 1 ? byte ^ 1 : byte));
    const other = createVault(randomBytes(KEY_BYTES), randomBytes);
    const corrupt = expect.objectContaining({ code: "store_corrupt" });

    expect(() => vault.payloads.open(2, sealed)).toThrow(corrupt);
    expect(() => other.payloads.open(1, sealed)).toThrow(corrupt);
    expect(() => vault.payloads.open(1, changed)).toThrow(corrupt);
    expect(() => vault.payloads.open(1, sealed.subarray(0, 20))).toThrow(corrupt);
    expect(() => vault.payloads.open(1, new Uint8Array())).toThrow(corrupt);
  });

  test("opens the token of a runner for this runner alone, and not as anything else", () => {
    const { runnerTokens, payloads } = vault;
    const sealed = runnerTokens.seal("r-aaaaaaaa", "glrt-secret");
    const corrupt = expect.objectContaining({ code: "store_corrupt" });

    expect(runnerTokens.open("r-aaaaaaaa", sealed)).toBe("glrt-secret");
    expect(() => runnerTokens.open("r-bbbbbbbb", sealed)).toThrow(corrupt);
    expect(() => payloads.open(1, runnerTokens.seal("1", "glrt-secret"))).toThrow(corrupt);
  });

  test("gives a machine the same token for the same key, and another for another key", () => {
    const again = createVault(key, randomBytes);
    const other = createVault(randomBytes(KEY_BYTES), randomBytes);
    const token = vault.machineToken("fr-aaaaaaaa").reveal();

    expect(again.machineToken("fr-aaaaaaaa").reveal()).toBe(token);
    expect(other.machineToken("fr-aaaaaaaa").reveal()).not.toBe(token);
  });
});
