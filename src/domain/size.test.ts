import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { aSize } from "../../test/builders/size.ts";
import { describeSize, fits, occupied } from "./size.ts";

const total = { cpus: 4, memoryMib: 8_192, machines: 3, diskMib: 20_480 };

describe("sizes", () => {
  test("what machines occupy is the sum of their CPUs, memory and disks, and their number", () => {
    const sizes = [
      aSize({ cpus: 1, memoryMib: 512, diskMib: 1_024 }),
      aSize({ cpus: 3, memoryMib: 2_048, diskMib: 4_096 }),
    ];

    expect(occupied(sizes)).toEqual({ cpus: 4, memoryMib: 2_560, machines: 2, diskMib: 5_120 });
    expect(occupied([])).toEqual({ cpus: 0, memoryMib: 0, machines: 0, diskMib: 0 });
  });

  test.each([
    { name: "exactly what is left", size: { cpus: 2, memoryMib: 4_096, diskMib: 16_384 }, expected: true },
    { name: "one CPU too many", size: { cpus: 3, memoryMib: 1_024 }, expected: false },
    { name: "one MiB too much", size: { cpus: 1, memoryMib: 4_097 }, expected: false },
    { name: "one MiB of disk too much", size: { cpus: 1, memoryMib: 1, diskMib: 16_385 }, expected: false },
  ])("$name", ({ size, expected }) => {
    const taken = { cpus: 2, memoryMib: 4_096, machines: 1, diskMib: 4_096 };

    expect(fits(total, taken, aSize(size))).toBe(expected);
  });

  test("nothing fits beside the most machines allowed", () => {
    const taken = { cpus: 0, memoryMib: 0, machines: 3, diskMib: 0 };

    expect(fits(total, taken, aSize({ cpus: 1, memoryMib: 1 }))).toBe(false);
  });

  test("where nobody has said how much disk there is, disk is no limit", () => {
    const taken = { cpus: 0, memoryMib: 0, machines: 0, diskMib: 10_000_000 };

    expect(fits({ ...total, diskMib: undefined }, taken, aSize({ diskMib: 10_000_000 }))).toBe(true);
  });

  test("machines that are only started while they fit never take more than there is", () => {
    const size = fc.record({
      cpus: fc.integer({ min: 1, max: 4 }),
      memoryMib: fc.integer({ min: 1, max: 8_192 }),
      diskMib: fc.integer({ min: 1, max: 20_480 }),
    });
    fc.assert(
      fc.property(fc.array(size), (wanted) => {
        const started: typeof wanted = [];
        for (const next of wanted) if (fits(total, occupied(started), next)) started.push(next);
        const taken = occupied(started);
        return (
          taken.cpus <= total.cpus &&
          taken.memoryMib <= total.memoryMib &&
          taken.machines <= total.machines &&
          taken.diskMib <= total.diskMib
        );
      }),
    );
  });

  test("a size in words", () => {
    expect(describeSize(aSize({ cpus: 1, memoryMib: 512 }))).toBe("1 CPU, 512 MiB");
    expect(describeSize(aSize({ cpus: 4, memoryMib: 6_144 }))).toBe("4 CPUs, 6 GiB");
  });
});
