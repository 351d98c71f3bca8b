import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { aSize } from "../../test/builders/size.ts";
import { describeSize, fits, occupied } from "./size.ts";

const total = { cpus: 4, memoryMib: 8_192, machines: 3 };

describe("sizes", () => {
  test("what machines occupy is the sum of their CPUs and memory, and their number", () => {
    const sizes = [aSize({ cpus: 1, memoryMib: 512 }), aSize({ cpus: 3, memoryMib: 2_048 })];

    expect(occupied(sizes)).toEqual({ cpus: 4, memoryMib: 2_560, machines: 2 });
    expect(occupied([])).toEqual({ cpus: 0, memoryMib: 0, machines: 0 });
  });

  test.each([
    { name: "exactly what is left", size: { cpus: 2, memoryMib: 4_096 }, expected: true },
    { name: "one CPU too many", size: { cpus: 3, memoryMib: 1_024 }, expected: false },
    { name: "one MiB too much", size: { cpus: 1, memoryMib: 4_097 }, expected: false },
  ])("$name", ({ size, expected }) => {
    const taken = { cpus: 2, memoryMib: 4_096, machines: 1 };

    expect(fits(total, taken, aSize(size))).toBe(expected);
  });

  test("nothing fits beside the most machines allowed", () => {
    expect(fits(total, { cpus: 0, memoryMib: 0, machines: 3 }, aSize({ cpus: 1, memoryMib: 1 }))).toBe(false);
  });

  test("machines that are only started while they fit never take more than there is", () => {
    const size = fc.record({
      cpus: fc.integer({ min: 1, max: 4 }),
      memoryMib: fc.integer({ min: 1, max: 8_192 }),
      diskMib: fc.constant(1),
    });
    fc.assert(
      fc.property(fc.array(size), (wanted) => {
        const started: typeof wanted = [];
        for (const next of wanted) if (fits(total, occupied(started), next)) started.push(next);
        const taken = occupied(started);
        return (
          taken.cpus <= total.cpus && taken.memoryMib <= total.memoryMib && taken.machines <= total.machines
        );
      }),
    );
  });

  test("a size in words", () => {
    expect(describeSize(aSize({ cpus: 1, memoryMib: 512 }))).toBe("1 CPU, 512 MiB");
    expect(describeSize(aSize({ cpus: 4, memoryMib: 6_144 }))).toBe("4 CPUs, 6 GiB");
  });
});
