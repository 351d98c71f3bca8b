import type { HostCapacity } from "../../src/domain/placement.ts";

/** A host that takes everything that fits. */
export function aHostCapacity(overrides: Partial<HostCapacity> = {}): HostCapacity {
  return {
    key: "fake",
    driver: "fake",
    capacity: { cpus: 64, memoryMib: 65_536, machines: 64 },
    labels: {},
    closed: undefined,
    unusable: new Map(),
    images: new Set(),
    refusals: [],
    ...overrides,
  };
}
