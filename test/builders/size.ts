import type { Size } from "../../src/domain/size.ts";

export function aSize(overrides: Partial<Size> = {}): Size {
  return { cpus: 1, memoryMib: 1_024, diskMib: 4_096, ...overrides };
}
