import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { backoffMs } from "../base/backoff.ts";
import { requestedWaitMs } from "./answer.ts";

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
