/** How much CPU and memory machines have taken up, and for how long: each is counted up to now whenever anybody looks, and once more when it goes. */
import { MIB_BYTES, SECOND_MS } from "../../base/units.ts";
import type { Instruments } from "./instruments.ts";
import { poolLabel } from "./label-values.ts";

export interface UsingMachine {
  readonly id: string;
  readonly pool: string;
  readonly cpus: number;
  readonly memoryMib: number;
}

export interface Usage {
  /** From `at` (epoch ms) on. */
  begin(machine: UsingMachine, at: number): void;
  end(id: string, at: number): void;
  /** Counts what there is up to `now`. */
  count(now: number): void;
}

export function createUsage(instruments: Pick<Instruments, "count">): Usage {
  const machines = new Map<string, UsingMachine & { countedTo: number }>();

  function take(machine: UsingMachine & { countedTo: number }, until: number): void {
    // A clock may be set back.
    const seconds = Math.max(0, until - machine.countedTo) / SECOND_MS;
    machine.countedTo = until;
    const pool = poolLabel(machine.pool);
    instruments.count("firerunner_machine_vcpu_seconds_total", seconds * machine.cpus, { pool });
    const bytes = machine.memoryMib * MIB_BYTES;
    instruments.count("firerunner_machine_memory_byte_seconds_total", seconds * bytes, { pool });
  }

  return {
    begin: (machine, at) => void machines.set(machine.id, { ...machine, countedTo: at }),
    end(id, at) {
      const machine = machines.get(id);
      if (machine) take(machine, at);
      machines.delete(id);
    },
    count(now) {
      for (const machine of machines.values()) take(machine, now);
    },
  };
}
