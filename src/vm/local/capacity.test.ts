import { describe, expect, test } from "vitest";
import { hostCapacity, hostResources } from "./capacity.ts";

describe("the capacity of this computer", () => {
  const rules = { cpuOvercommit: 2, overheadMib: 100, minFreeDisk: 1_024, overcommit: { disk: 1 } };
  const diskMib = 101_024;

  test("gives CPUs away several times, and keeps a tenth of the memory and the overhead of each machine", () => {
    const capacity = hostCapacity({ cpus: 8, memoryMib: 64_000, diskMib }, rules);

    expect(capacity).toEqual({ cpus: 16, machines: 16, memoryMib: 64_000 - 6_400 - 1_600, diskMib: 100_000 });
  });

  test("keeps at least 1 GiB on a small host, or what the operator says", () => {
    expect(hostCapacity({ cpus: 1, memoryMib: 4_096, diskMib }, rules).memoryMib).toBe(4_096 - 1_024 - 200);
    expect(
      hostCapacity({ cpus: 1, memoryMib: 4_096, diskMib }, { ...rules, memoryReserve: 0 }).memoryMib,
    ).toBe(3_896);
  });

  test("is limited by the operator's number of machines", () => {
    const capacity = hostCapacity({ cpus: 8, memoryMib: 64_000, diskMib }, { ...rules, maxMachines: 3 });

    expect(capacity).toEqual({ cpus: 16, machines: 3, memoryMib: 64_000 - 6_400 - 300, diskMib: 100_000 });
  });

  test("is never negative, and always has a CPU", () => {
    const capacity = hostCapacity(
      { cpus: 1, memoryMib: 512, diskMib: 512 },
      { ...rules, cpuOvercommit: 0.1 },
    );

    expect(capacity).toEqual({ cpus: 1, machines: 1, memoryMib: 0, diskMib: 0 });
  });

  test("promises disk as often as the operator says, after what is kept free", () => {
    const twice = { ...rules, overcommit: { disk: 2 } };

    expect(hostCapacity({ cpus: 1, memoryMib: 4_096, diskMib }, twice).diskMib).toBe(200_000);
  });

  test("starts from what this process may use", () => {
    expect(hostResources().cpus).toBeGreaterThan(0);
    expect(hostResources().memoryMib).toBeGreaterThan(100);
  });
});
