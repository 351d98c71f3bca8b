import { describe, expect, test } from "vitest";
import { createRecordingLog } from "../../../test/builders/recording-log.ts";
import { createManualClock } from "../../base/manual-clock.ts";
import type { DiskUse } from "./capacity.ts";
import { chooseVictim, createDiskGuard } from "./capacity.ts";

function disks(uses: Record<string, [writtenMib: number, sizeMib: number]>): Map<string, DiskUse> {
  return new Map(Object.entries(uses).map(([id, [writtenMib, sizeMib]]) => [id, { writtenMib, sizeMib }]));
}

describe("who has to go when the volume runs full", () => {
  test.each([
    ["who holds most", { a: [100, 1_000], b: [900, 1_000] }, "b"],
    [
      "a small disk that is full before a large one that is half empty",
      { a: [500, 4_000], b: [400, 400] },
      "b",
    ],
    ["the large one when it holds more than its share too", { a: [4_000, 4_000], b: [400, 400] }, "a"],
    ["the only one", { a: [700, 1_000] }, "a"],
    ["nobody where nobody holds enough to matter", { a: [2, 1_000], b: [15, 1_000] }, undefined],
    ["nobody where nobody runs", {}, undefined],
  ] as const)("is %s", (_, uses, expected) => {
    expect(chooseVictim(disks(uses as unknown as Record<string, [number, number]>))).toBe(expected);
  });
});

describe("the guard of the volume", () => {
  function aVolume(freeMib: number, uses: Map<string, DiskUse>) {
    const clock = createManualClock();
    const { log, lines } = createRecordingLog();
    const volume = { freeMib, uses, looks: 0, ended: [] as string[], words: "", cachedMib: 0 };
    const guard = createDiskGuard({
      ...{ clock, log, reserveMib: 1_024, markMib: 512 },
      async makeFree() {
        volume.freeMib += volume.cachedMib;
        volume.cachedMib = 0;
        return volume.freeMib;
      },
      freeMib: async () => {
        volume.looks++;
        return volume.freeMib;
      },
      disks: async () => volume.uses,
      async end(id, words) {
        volume.ended.push(id);
        volume.words = words;
        volume.freeMib += volume.uses.get(id)?.writtenMib ?? 0;
        volume.uses.delete(id);
      },
    });
    return { clock, guard, lines, volume };
  }

  test("leaves everybody in peace above the mark, and looks the more often the nearer it is", async () => {
    const { clock, guard, volume } = aVolume(100_000, disks({ a: [10_000, 20_000] }));
    await clock.advance(10_000);
    const seldom = volume.looks;
    volume.freeMib = 600;
    await clock.advance(2_000);
    volume.looks = 0;
    await clock.advance(10_000);
    guard.close();

    expect(seldom).toBeLessThan(10);
    expect(volume.looks).toBeGreaterThan(100);
    expect(volume.ended).toEqual([]);
  });

  test("ends one after the other until there is room again, and says why", async () => {
    const uses = disks({ a: [200, 1_000], b: [900, 1_000], c: [150, 1_000] });
    const { clock, guard, lines, volume } = aVolume(100, uses);
    await clock.advance(1_000);
    guard.close();

    expect(volume.ended).toEqual(["b"]);
    expect(volume.words).toBe(
      "100 MiB were left for the disks of all machines, and this one held 900 MiB, more than its share beside 2 others",
    );
    expect(lines[0]).toContain("the host's disk is full");
  });

  test("ends nobody while caches can give way", async () => {
    const { clock, guard, lines, volume } = aVolume(100, disks({ a: [900, 1_000] }));
    volume.cachedMib = 5_000;
    await clock.advance(1_000);
    const before = [...volume.ended];
    // They have nothing more to give.
    volume.freeMib = 100;
    await clock.advance(5_000);
    guard.close();

    expect([before, volume.ended]).toEqual([[], ["a"]]);
    expect(lines).toHaveLength(1);
  });

  test("while others fill the volume, ends who holds 16 MiB, nobody who holds less, and says so once a minute", async () => {
    const { clock, guard, lines, volume } = aVolume(
      3,
      disks({ a: [15, 1_000], b: [40, 1_000], c: [16, 1_000] }),
    );
    await clock.advance(150_000);
    guard.close();

    expect(volume.ended).toEqual(["b", "c"]);
    expect(lines.filter((line) => line.includes("no machine holds enough"))).toHaveLength(3);
  });

  test("looks at once when it is called", async () => {
    const { clock, guard, volume } = aVolume(100_000, disks({ a: [900, 1_000] }));
    await clock.advance(10);
    volume.freeMib = 0;
    guard.check();
    await clock.advance(0);
    guard.close();

    expect(volume.ended).toEqual(["a"]);
  });
});
