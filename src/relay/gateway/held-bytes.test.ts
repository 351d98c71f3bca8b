import { describe, expect, test } from "vitest";
import { silentLog } from "../../base/log.ts";
import { createManualClock } from "../../base/manual-clock.ts";
import { RelaySettings } from "../config.ts";
import { createHeldBytes } from "./admission.ts";
import { createGuest, type Guest } from "./guest.ts";

function aGuest(): Guest {
  const settings = RelaySettings.parse({});
  return createGuest({
    machineId: "fr-aaaaaaaa",
    isRemote: false,
    clock: createManualClock(),
    settings,
    log: silentLog,
  });
}

const refusal = (rule: string) => expect.objectContaining({ status: 503, rule });

describe("the bytes that are held for guests", () => {
  test("are limited for each machine", () => {
    const held = createHeldBytes({ perMachineBytes: 100, inAllBytes: 10_000, machines: () => 2 });
    const [one, other] = [aGuest(), aGuest()];
    held.add(one, 100);

    expect(() => held.add(one, 1)).toThrow(refusal("too-much-held"));
    held.add(other, 100);
    held.remove(one, 50);
    held.add(one, 50);
    expect(held.totalBytes).toBe(200);
  });

  test("are limited in all, and every machine keeps a share that others cannot take", () => {
    const guests = Array.from({ length: 10 }, aGuest);
    const held = createHeldBytes({ perMachineBytes: 400, inAllBytes: 1_000, machines: () => 10 });
    const greedy = guests.slice(0, 9);
    for (let round = 0; round < 1_000; round++) {
      for (const guest of greedy) {
        try {
          held.add(guest, 10);
        } catch {}
      }
    }

    expect(held.totalBytes).toBeLessThanOrEqual(1_000);
    expect(() => held.add(greedy[0] ?? aGuest(), 10)).toThrow(refusal("too-much-held-by-all"));
    held.add(guests[9] ?? aGuest(), 50);
    expect(held.totalBytes).toBeLessThanOrEqual(1_000);
  });
});
