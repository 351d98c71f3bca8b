/** The Firecracker processes of the host: they outlive the daemon that started them. */
import type { StoredMachine } from "./content.ts";
import type { GuestProcess, StandInOptions } from "./options.ts";
import { deathAtStart, metadataDocuments } from "./spec.ts";

interface Process {
  boots: number;
  /** Undefined: not running. */
  life: AbortController | undefined;
  guest: Promise<GuestProcess | undefined>;
  stderr: string;
  metadata: Readonly<Record<string, string>>;
}

export interface Processes {
  /** Starts it, and like the daemon's own look right after does not see whether it lives on. */
  boot(machine: StoredMachine): Promise<void>;
  isAlive(uid: string): boolean;
  /** Those that run or have run and are not deleted. */
  uids(): string[];
  facts(uid: string): { boots: number; stderr: string; metadata: Readonly<Record<string, string>> };
  /** Its own end, also by a crash. */
  exit(uid: string): void;
  /** Ends it and forgets its disk. */
  destroy(uid: string): Promise<void>;
  /** The host loses power: all processes end, disks stay. */
  powerOff(): Promise<void>;
}

export function createProcesses(onBoot: StandInOptions["onBoot"] | undefined): Processes {
  const processes = new Map<string, Process>();

  function end(process: Process | undefined): void {
    process?.life?.abort();
    if (process) process.life = undefined;
  }

  async function kill(process: Process | undefined): Promise<void> {
    end(process);
    const guest = await process?.guest;
    await guest?.kill();
  }

  function processOf({ uid, spec }: StoredMachine): Process {
    const known = processes.get(uid);
    if (known) return known;
    const metadata = metadataDocuments(spec);
    const guest = Promise.resolve(undefined);
    const made: Process = { boots: 0, life: undefined, guest, stderr: "", metadata };
    processes.set(uid, made);
    return made;
  }

  async function boot(machine: StoredMachine): Promise<void> {
    const process = processOf(machine);
    process.boots++;
    const death = deathAtStart(machine.spec);
    if (death !== undefined) {
      process.stderr += `${death}\n`;
      return;
    }
    const life = new AbortController();
    process.life = life;
    const exit = () => {
      if (process.life === life) end(process);
    };
    const { uid, spec } = machine;
    const { id, namespace } = spec;
    const facts = { uid, id, namespace, spec, number: process.boots, metadata: process.metadata };
    const start = async () => await onBoot?.({ ...facts, gone: life.signal, exit });
    process.guest = start().catch((error) => {
      process.stderr += `${String(error)}\n`;
      exit();
      return undefined;
    });
    const guest = await process.guest;
    guest?.ended.then(exit, exit);
  }

  return {
    boot,
    isAlive: (uid) => processes.get(uid)?.life !== undefined,
    uids: () => [...processes.keys()],
    facts: (uid) => processes.get(uid) ?? { boots: 0, stderr: "", metadata: {} },
    exit(uid) {
      // A process that cannot be killed shows in the machine, which stays.
      kill(processes.get(uid)).catch(() => {});
    },
    async destroy(uid) {
      await kill(processes.get(uid));
      processes.delete(uid);
    },
    async powerOff() {
      await Promise.all([...processes.values()].map(kill));
    },
  };
}
