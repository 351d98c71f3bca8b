import { expect, test } from "vitest";
import { ulidTime } from "./listing.ts";

test("a ULID tells when it was made", () => {
  // Made by a flintlockd on 2026-11-23.
  expect(new Date(ulidTime("01M840MDEM0NZYTNWJPSNBKX27") ?? 0).toISOString()).toMatch(/^2026-11-2/);
  expect(ulidTime("00000000010000000000000000")).toBe(1);
  expect(ulidTime("nope")).toBeUndefined();
  expect(ulidTime("81M840MDEM0NZYTNWJPSNBKX27")).toBeUndefined();
});
