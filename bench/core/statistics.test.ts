import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { pairedDifferences, quantile, summarize } from "./statistics.ts";

describe("summaries", () => {
  test("an odd series has its middle sample as median, an even one the mean of two", () => {
    expect(summarize([9, 1, 5])).toEqual({ n: 3, min: 1, median: 5, p90: 8.2, max: 9 });
    expect(summarize([4, 1, 3, 2]).median).toBe(2.5);
  });

  test("a series of one sample is that sample everywhere", () => {
    expect(summarize([7])).toEqual({ n: 1, min: 7, median: 7, p90: 7, max: 7 });
  });

  test("an empty series is refused", () => {
    expect(() => summarize([])).toThrow(RangeError);
  });

  test("quantiles never decrease, and lie between the least and the greatest sample", () => {
    const series = fc.array(fc.double({ min: -1e6, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 50 });
    fc.assert(
      fc.property(series, (samples) => {
        const [low, middle, high] = [quantile(samples, 0.1), quantile(samples, 0.5), quantile(samples, 0.9)];
        expect(low).toBeLessThanOrEqual(middle + 1e-6);
        expect(middle).toBeLessThanOrEqual(high + 1e-6);
        expect(low).toBeGreaterThanOrEqual(Math.min(...samples));
        expect(high).toBeLessThanOrEqual(Math.max(...samples));
      }),
    );
  });

  test("differences are taken pair by pair", () => {
    expect(pairedDifferences([5, 7], [1, 10])).toEqual([4, -3]);
    expect(() => pairedDifferences([1], [])).toThrow(RangeError);
  });
});
