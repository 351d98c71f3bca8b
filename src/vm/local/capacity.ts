/**
 * What this computer has to give to machines: its CPUs and memory after over-commit and reserve, and the volume on which their scratch
 * disks lie, with what each takes up there. The guard keeps that volume from running full where more was promised than there is, or where
 * others write on it: before nothing is left, the machine that holds the most is ended. It needs nothing but the volume and the machines:
 * no store, no GitLab.
 */
import { readdir, stat } from "node:fs/promises";
import { availableParallelism, totalmem } from "node:os";
import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { type DiskLedger, freeBytesOf } from "../../base/disk-ledger.ts";
import { describeError } from "../../base/errors.ts";
import type { Log } from "../../base/log.ts";
import { formatMib, MIB_BYTES, MINUTE_MS } from "../../base/units.ts";
import type { Capacity } from "../../domain/size.ts";
import { inside } from "./machine-directory.ts";
import type { RunningMachines } from "./running-machines.ts";

/** What `blocks` of a file's status count, whatever the file system's own blocks. */
const STAT_BLOCK_BYTES = 512;

interface HostResources {
  /** CPUs this process may use. */
  readonly cpus: number;
  /** Memory of the host, or of the control group that this process lives in. */
  readonly memoryMib: number;
  /** What the machines' scratch disks could take up together: free space, and what they take up now. */
  readonly diskMib: number;
}

interface CapacityRules {
  readonly cpuOvercommit: number;
  readonly memoryReserve?: number | undefined;
  readonly maxMachines?: number | undefined;
  /** MiB that the machines' disks leave free. */
  readonly minFreeDisk: number;
  readonly overcommit: { readonly disk: number };
  /** What a machine takes beside the memory its guest was given. */
  readonly overheadMib: number;
}

/**
 * What can be given to machines. Every machine has at least one CPU, so there are never more machines than CPUs to give;
 * the overhead of that many is kept aside, because a slot counts only the memory of the guest.
 */
export function hostCapacity(host: HostResources, rules: CapacityRules): Capacity {
  const cpus = Math.max(1, Math.floor(host.cpus * rules.cpuOvercommit));
  const machines = Math.min(cpus, rules.maxMachines ?? cpus);
  const reserveMib = rules.memoryReserve ?? Math.max(GIB_MIB, host.memoryMib / 10);
  const memoryMib = Math.floor(host.memoryMib - reserveMib - machines * rules.overheadMib);
  const diskMib = Math.floor((host.diskMib - rules.minFreeDisk) * rules.overcommit.disk);
  return { cpus, memoryMib: Math.max(0, memoryMib), machines, diskMib: Math.max(0, diskMib) };
}

/** This computer, or the part of it that a container or a service unit leaves us. */
export function hostResources(): Omit<HostResources, "diskMib"> {
  const limit = process.constrainedMemory();
  const bytes = limit > 0 ? Math.min(limit, totalmem()) : totalmem();
  return { cpus: availableParallelism(), memoryMib: Math.floor(bytes / MIB_BYTES) };
}

/** A scratch disk on the volume. */
export interface DiskUse {
  readonly writtenMib: number;
  /** As big as its guest sees it. */
  readonly sizeMib: number;
}

const GIB_MIB = 1_024;

/** What this program's user may still write there, in MiB. */
export async function freeMib(directory: string): Promise<number> {
  return (await freeBytesOf(directory)) / MIB_BYTES;
}

/** The file `name` in each directory below `machines`, by the directory's name. Holes take up nothing. */
export async function diskUses(machines: string, name: string): Promise<ReadonlyMap<string, DiskUse>> {
  const directories = await readdir(machines);
  const found = await Promise.all(
    directories.map(async (directory): Promise<[string, DiskUse][]> => {
      const file = await stat(join(machines, directory, name)).catch(() => undefined);
      if (!file) return [];
      const writtenMib = (file.blocks * STAT_BLOCK_BYTES) / MIB_BYTES;
      return [[directory, { writtenMib, sizeMib: file.size / MIB_BYTES }]];
    }),
  );
  return new Map(found.flat());
}

/**
 * How much the scratch disks of machines could take up together, in MiB: what is free, what caches give back for them, and what they take up
 * already. As machines write, one becomes the other, so that the sum changes only with what others do on the volume.
 */
export async function freeForDisks(machines: string, name: string, caches?: DiskLedger): Promise<number> {
  const free = await freeMib(machines);
  const evictableMib = ((await caches?.evictableBytes(machines)) ?? 0) / MIB_BYTES;
  const uses = await diskUses(machines, name);
  return free + evictableMib + [...uses.values()].reduce((sum, { writtenMib }) => sum + writtenMib, 0);
}

/** How fast a volume is taken to be filled at most: the next look comes before the mark can have been passed by far. */
const FASTEST_MIB_PER_MS = 2;
const SOONEST_MS = 50;
const LATEST_MS = 2_000;
/** Who holds less is not worth ending: what fills the volume is something else. */
const LEAST_GAIN_MIB = 16;
/** Half of what is kept free: until there nothing new is started, and below it somebody has to go. */
const MARK_SHARE = 0.5;

interface DiskGuardDeps {
  readonly clock: Clock;
  readonly log: Log;
  /** Below this caches give way. */
  readonly reserveMib: number;
  /** Below this a machine is ended. */
  readonly markMib: number;
  freeMib(): Promise<number>;
  /** Has caches give way, and answers what is free then; called before anybody is ended. */
  makeFree(): Promise<number>;
  /** The disks of machines that run and can be ended, by machine. */
  disks(): Promise<ReadonlyMap<string, DiskUse>>;
  /** Ends a machine, with the reason in words. Resolves when its space has come back, or after a few seconds. */
  end(id: string, words: string): Promise<void>;
}

interface DiskGuard {
  /** Checks at once: a machine has just been told that the volume is full. */
  check(): void;
  close(): void;
}

interface GuardOptions {
  readonly minFreeMib: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly caches: DiskLedger | undefined;
}

/** The guard of the machines in this directory. */
export function guardDisks(
  machines: string,
  { minFreeMib, clock, log, caches }: GuardOptions,
  running: Pick<RunningMachines, "running" | "end" | "onFault">,
): DiskGuard {
  const guard = createDiskGuard({
    ...{ clock, log, markMib: minFreeMib * MARK_SHARE },
    reserveMib: minFreeMib,
    freeMib: () => freeMib(machines),
    makeFree: async () =>
      caches
        ? (await caches.makeFree(machines, minFreeMib * MIB_BYTES)) / MIB_BYTES
        : await freeMib(machines),
    async disks() {
      const ids = new Set(running.running());
      return new Map([...(await diskUses(machines, inside.scratch))].filter(([id]) => ids.has(id)));
    },
    end: (id, words) => running.end(id, { exit: "host-disk", words }),
  });
  running.onFault(({ exit: { exit } }) => {
    if (exit === "host-disk") guard.check();
  });
  return guard;
}

export function createDiskGuard(deps: DiskGuardDeps): DiskGuard {
  const { clock, log, markMib, reserveMib } = deps;
  const closed = new AbortController();
  let alarm = new AbortController();
  let complainedAt = Number.NEGATIVE_INFINITY;

  /** Resolves with the time to the next look (ms). */
  async function once(): Promise<number> {
    const found = await deps.freeMib();
    const free = found < reserveMib ? await deps.makeFree() : found;
    if (free >= markMib) return pauseFor(free - markMib);
    const disks = await deps.disks();
    const victim = chooseVictim(disks);
    if (victim === undefined) {
      complain(`${formatMib(free)} are free, and no machine holds enough of it to be ended for it`);
      return LATEST_MS;
    }
    const words = wordsFor(free, disks.get(victim)?.writtenMib ?? 0, disks.size);
    log.warn(
      { machineId: victim, freeMib: Math.floor(free), markMib },
      "ending a machine: the host's disk is full",
    );
    await deps.end(victim, words);
    return SOONEST_MS;
  }

  function complain(problem: string): void {
    if (clock.now() - complainedAt < MINUTE_MS) return;
    complainedAt = clock.now();
    log.warn({ problem, hint: "free some space where machines have their disks" }, "the host's disk is full");
  }

  async function watch(): Promise<void> {
    while (!closed.signal.aborted) {
      alarm = new AbortController();
      const pauseMs = await once().catch((error: unknown) => {
        complain(`it cannot be looked at: ${describeError(error)}`);
        return LATEST_MS;
      });
      await clock.sleep(pauseMs, AbortSignal.any([closed.signal, alarm.signal])).catch(() => {});
    }
  }

  void watch();
  return { check: () => alarm.abort(), close: () => closed.abort() };
}

function pauseFor(headroomMib: number): number {
  return Math.min(LATEST_MS, Math.max(SOONEST_MS, headroomMib / FASTEST_MIB_PER_MS));
}

/**
 * Who holds most among those that hold more than their share of what is written, each share being as large as the disk is beside the
 * others: a small disk that is full goes before a large one that is half empty. Undefined where nobody holds enough to matter.
 */
export function chooseVictim(disks: ReadonlyMap<string, DiskUse>): string | undefined {
  const all = [...disks].map(([id, use]) => ({ id, ...use }));
  const written = all.reduce((sum, { writtenMib }) => sum + writtenMib, 0);
  const promised = all.reduce((sum, { sizeMib }) => sum + sizeMib, 0);
  const isAboveShare = (use: DiskUse) => use.writtenMib * promised >= written * use.sizeMib;
  const [most] = all
    .filter((use) => use.writtenMib >= LEAST_GAIN_MIB && isAboveShare(use))
    .toSorted((a, b) => b.writtenMib - a.writtenMib);
  return most?.id;
}

function wordsFor(freeMib: number, writtenMib: number, count: number): string {
  const others =
    count > 1 ? `, more than its share beside ${count - 1} ${count === 2 ? "other" : "others"}` : "";
  return `${formatMib(freeMib)} were left for the disks of all machines, and this one held ${formatMib(writtenMib)}${others}`;
}
