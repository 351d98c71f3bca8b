import { describe, expect, test } from "vitest";
import { aHostCapacity } from "../../test/builders/host-capacity.ts";
import { aPool } from "../../test/builders/pool.ts";
import { aSize } from "../../test/builders/size.ts";
import { poolCapacity } from "./pool.ts";

const GIB = 1_024;

describe("the room for machines of a pool", () => {
  const pool = aPool({ size: aSize({ cpus: 2, memoryMib: 2_048, diskMib: 20 * GIB }), concurrency: 50 });
  const host = (diskMib: number | undefined, key = "fake") =>
    aHostCapacity({ key, capacity: { cpus: 16, memoryMib: 65_536, machines: 16, diskMib } });

  test("is what CPUs and memory allow while there is disk enough, and nothing is said of disk", () => {
    expect(poolCapacity(pool, [host(200 * GIB)])).toEqual({ machines: 8, byDisk: 10, note: undefined });
  });

  test("is what disk allows where that is less, and says which keys change it", () => {
    const { note, ...room } = poolCapacity(pool, [host(65 * GIB)]);

    expect(room).toEqual({ machines: 3, byDisk: 3 });
    expect(note).toBe(
      "disk allows 3 machines at one time (20 GiB each), where all else allows 8: " +
        "free some space, lower pools.small.size.disk, or raise vm.overcommit.disk",
    );
  });

  test("is a matter of the kind of machine for a pool of jobs by tag, whatever its name", () => {
    const tagged = { ...pool, origin: { kind: "tags", key: "r-a" } } as const;

    expect(poolCapacity(tagged, [host(65 * GIB)]).note).toContain("(webhook.machine.disk)");
    expect(poolCapacity({ ...pool, name: "a:b" }, [host(65 * GIB)]).note).toContain("pools.a:b.size.disk");
  });

  test("is none when one disk is more than there is", () => {
    const { note, ...room } = poolCapacity(pool, [host(12 * GIB)]);

    expect(room).toEqual({ machines: 0, byDisk: 0 });
    expect(note).toContain("no machine, since the disk of one (20 GiB) is more than the 12 GiB there are");
  });

  test("says nothing of disk where the pool's own limit is reached first", () => {
    expect(poolCapacity({ ...pool, concurrency: 3 }, [host(65 * GIB)]).note).toBeUndefined();
  });

  test("is the sum of its hosts, each whole machines only, and unlimited by disk where one is", () => {
    const hosts = [host(30 * GIB, "fake/a"), host(30 * GIB, "fake/b")];

    expect(poolCapacity(pool, hosts)).toMatchObject({ machines: 2, byDisk: 2 });
    expect(poolCapacity(pool, [...hosts, host(undefined, "fake/c")])).toMatchObject({
      machines: 10,
      byDisk: undefined,
    });
  });

  test("counts only hosts that may be used", () => {
    const other = { ...host(200 * GIB), driver: "qemu" };

    expect(poolCapacity({ ...pool, hostLabels: { zone: "a" } }, [host(200 * GIB), other])).toEqual({
      machines: 0,
      byDisk: 0,
      note: undefined,
    });
  });
});
