import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { LEAST_MEASURED, peaksOf, suggestedMib } from "./usage.ts";

const size = { cpus: 2, memoryMib: 4_096, diskMib: 20_480 };

describe("what a guest tells of its use", () => {
  test.each([
    [{ availableMib: 4_096 }, { memoryMib: 0 }],
    [
      { availableMib: 3_000, diskMib: 1 },
      { memoryMib: 1_152, diskMib: 320 },
    ],
    [
      { availableMib: 0, diskMib: 20_480 },
      { memoryMib: 4_096, diskMib: 20_480 },
    ],
    [
      { availableMib: 9_999_999, diskMib: 999_999_999 },
      { memoryMib: 0, diskMib: 20_480 },
    ],
    [{}, {}],
  ])("%j is %j", (told, expected) => {
    expect(peaksOf(size, told)).toEqual({ memoryMib: undefined, diskMib: undefined, ...expected });
  });

  test("is never more than the machine, nor in more than 64 parts", () => {
    const told = fc.integer({ min: -(2 ** 40), max: 2 ** 40 });
    const seen = new Set<number | undefined>();
    fc.assert(
      fc.property(told, told, (availableMib, diskMib) => {
        const peaks = peaksOf(size, { availableMib, diskMib });
        seen.add(peaks.memoryMib);
        return (
          (peaks.memoryMib ?? -1) >= 0 &&
          (peaks.memoryMib ?? 0) <= size.memoryMib &&
          (peaks.diskMib ?? -1) >= 0
        );
      }),
    );
    expect(seen.size).toBeLessThanOrEqual(65);
    expect(peaksOf({ ...size, diskMib: 0 }, { diskMib: 5 }).diskMib).toBe(0);
  });
});

describe("the size that is suggested", () => {
  const measured = { askedMib: 8_192, peakMib: 1_000, jobs: LEAST_MEASURED, tooLittle: 0 };

  test.each([
    ["a quarter more than the largest peak, in fine steps", {}, 1_280],
    ["in coarse ones where it is large", { peakMib: 5_000 }, 7_168],
    [
      "more than was asked for, where that was too little",
      { askedMib: 1_024, peakMib: 1_024, tooLittle: 1 },
      1_536,
    ],
    ["never nothing", { peakMib: 0 }, 256],
    ["none for a few jobs", { jobs: LEAST_MEASURED - 1 }, null],
    ["none where nothing was told", { peakMib: null }, null],
    ["none for jobs of several sizes", { askedMib: undefined }, null],
  ])("is %s", (_name, change, expected) => {
    expect(suggestedMib({ ...measured, ...change })).toBe(expected);
  });
});
