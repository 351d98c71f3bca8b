import { describe, expect, test } from "vitest";
import { createRandom } from "../simulation/random.ts";
import { type FaultKind, faultKinds, scheduleFaults, wordsOf } from "./faults.ts";

const HOUR_MS = 3_600_000;

function schedule(seed: number, change: { durationMs?: number; without?: readonly FaultKind[] } = {}) {
  return scheduleFaults(createRandom(seed), {
    durationMs: change.durationMs ?? HOUR_MS,
    ...{ gapMs: [20_000, 100_000], lengthMs: [6_000, 90_000] },
    ...{ links: ["gitlab", "guests"], hosts: ["metal-1", "metal-2"] },
    without: new Set(change.without),
  });
}

describe("a schedule of faults", () => {
  test("is the same for the same seed, and another for another", () => {
    expect(schedule(7)).toEqual(schedule(7));
    expect(schedule(7)).not.toEqual(schedule(8));
  });

  test("of an hour has every kind, in order of time, and is over with the hour", () => {
    for (let seed = 1; seed <= 50; seed++) {
      const faults = schedule(seed);
      const times = faults.map(({ atMs }) => atMs);

      expect(faultKinds.filter((kind) => !faults.some((fault) => fault.kind === kind))).toEqual([]);
      expect(times).toEqual(times.toSorted((a, b) => a - b));
      expect(faults.filter(({ atMs, forMs }) => atMs + forMs > HOUR_MS || forMs <= 0)).toEqual([]);
    }
  });

  test("has nothing that cannot be had here, and is empty when nothing can", () => {
    expect(schedule(3, { without: ["disk full"] }).filter(({ kind }) => kind === "disk full")).toEqual([]);
    expect(schedule(3, { without: faultKinds })).toEqual([]);
  });

  test("says of each what it hits", () => {
    const words = schedule(5, { durationMs: 4 * HOUR_MS }).map(wordsOf);

    expect(words).toContain("manager killed");
    expect(words.some((each) => /^partition, (gitlab|guests)$/.test(each))).toBe(true);
    expect(words.some((each) => /^host without power, metal-[12]$/.test(each))).toBe(true);
    expect(words.some((each) => /^clock stepped by -?\d+ s$/.test(each))).toBe(true);
    expect(words.some((each) => /^one way: nothing (gets there|comes back), /.test(each))).toBe(true);
  });
});
