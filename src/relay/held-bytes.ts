import { Refusal } from "./errors.ts";
import type { Guest } from "./guest.ts";

export interface HeldBytesLimits {
  readonly perMachineBytes: number;
  readonly inAllBytes: number;
  /** Machines whose doors are open. */
  readonly machines: () => number;
}

/**
 * Counts what the program holds in memory for its guests. Half of all there is goes to whoever comes first; the other half belongs to
 * the machines in equal shares, so that some of them, together, cannot keep the others out.
 */
export interface HeldBytes {
  /** Throws Refusal 503 when the machine, or all machines together, would hold too much. */
  add(guest: Guest, bytes: number): void;
  remove(guest: Guest, bytes: number): void;
  readonly totalBytes: number;
}

export function createHeldBytes({ perMachineBytes, inAllBytes, machines }: HeldBytesLimits): HeldBytes {
  const held = new WeakMap<Guest, number>();
  let totalBytes = 0;

  function whyNot(mine: number, bytes: number): string | undefined {
    if (mine > perMachineBytes) return "too-much-held";
    const isPlenty = totalBytes + bytes <= inAllBytes / 2;
    const isOwnShare = mine <= inAllBytes / 2 / Math.max(1, machines());
    return isPlenty || isOwnShare ? undefined : "too-much-held-by-all";
  }

  return {
    add(guest, bytes) {
      const mine = (held.get(guest) ?? 0) + bytes;
      const rule = whyNot(mine, bytes);
      if (rule !== undefined) {
        throw new Refusal(503, "too much is under way; try again", { rule, headers: { "Retry-After": "1" } });
      }
      held.set(guest, mine);
      totalBytes += bytes;
    },
    remove(guest, bytes) {
      held.set(guest, (held.get(guest) ?? 0) - bytes);
      totalBytes -= bytes;
    },
    get totalBytes() {
      return totalBytes;
    },
  };
}
