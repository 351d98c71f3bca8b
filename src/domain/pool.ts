/** Pools: named kinds of machines, and how many machines of one its hosts could run at one time. */

import type { Secret } from "../base/secret.ts";
import { formatMib } from "../base/units.ts";
import type { MachineContainers } from "./containers.ts";
import { hostsSettingOf, isRemoteDriver } from "./drivers.ts";
import type { Egress } from "./egress.ts";
import { type HostCapacity, type Labels, missingLabel } from "./placement.ts";
import type { Capacity, Size } from "./size.ts";

/** What the runner of each job is told, as gitlab-runner's own configuration has it. Jobs can read all of it. */
export interface RunnerSettings {
  /** `NAME=VALUE`, one line each. */
  readonly environment: readonly string[];
  readonly preGetSources?: string | undefined;
  readonly preBuild?: string | undefined;
  readonly postBuild?: string | undefined;
}

/** What a machine is besides its CPUs and memory: all that the tags of a job do not say. */
export interface MachineKind {
  readonly image: string;
  readonly driver: string;
  /** Jobs at one time, of a pool or of one set of tags. */
  readonly concurrency: number;
  readonly egress: Egress;
  readonly containers: MachineContainers;
  /** Undefined where nothing is said. */
  readonly runnerSettings?: RunnerSettings | undefined;
  /** What the host must have, where a driver has several. */
  readonly hostLabels: Labels;
  readonly diskMib: number;
}

/** Where a pool comes from; `key` is that of the runner (in the store) that was made for the tags. */
type PoolOrigin = { readonly kind: "configured" } | { readonly kind: "tags"; readonly key: string };

/** A named kind of machine, ready for use: defaults filled in, token read, driver decided. */
export interface Pool extends Omit<MachineKind, "diskMib"> {
  /** For people and for rows: a name of the configuration, `tags:TAG,TAG`, or `job:ID` where a runner is made for one job. */
  readonly name: string;
  readonly origin: PoolOrigin;
  readonly size: Size;
  /** The token of the GitLab runner whose jobs it serves. Never given to a machine. */
  readonly runnerToken: Secret;
}

interface PoolCapacity {
  /** As many machines as all that hosts have allows, within the pool's own limit. */
  readonly machines: number;
  /** As many as disk alone allows; undefined where disk is no limit. */
  readonly byDisk: number | undefined;
  /** Where disk is what allows no more: what can be done. */
  readonly note: string | undefined;
}

/** What hosts could run if nothing else ran there, and whether it is disk that allows no more. `hosts`: all there are. */
export function poolCapacity(
  pool: Pick<Pool, "name" | "origin" | "size" | "driver" | "hostLabels" | "concurrency">,
  hosts: readonly Pick<HostCapacity, "key" | "driver" | "labels" | "capacity">[],
): PoolCapacity {
  const { size, concurrency } = pool;
  const own = hosts.filter(
    ({ driver, labels }) => driver === pool.driver && missingLabel(labels, pool.hostLabels) === undefined,
  );
  const besideDisk = atMost(concurrency, sum(own.map(({ capacity }) => mostBesideDisk(capacity, size))));
  const each = own.map(({ capacity }) =>
    Math.min(mostBesideDisk(capacity, size), mostByDisk(capacity, size)),
  );
  const machines = atMost(concurrency, sum(each));
  const byDisk = sum(own.map(({ capacity }) => mostByDisk(capacity, size)));
  const isTight = own.length > 0 && machines < besideDisk;
  return {
    machines,
    byDisk: Number.isFinite(byDisk) ? byDisk : undefined,
    note: isTight ? noteOf(pool, machines, besideDisk, own) : undefined,
  };
}

function noteOf(
  { name, origin, size, driver }: Parameters<typeof poolCapacity>[0],
  machines: number,
  besideDisk: number,
  hosts: readonly Pick<HostCapacity, "key" | "capacity">[],
): string {
  const most = Math.max(...hosts.map(({ capacity }) => capacity.diskMib ?? 0));
  const count =
    machines === 0
      ? `no machine, since the disk of one (${formatMib(size.diskMib)}) is more than the ${formatMib(most)} there are for disks`
      : `${machines} ${machines === 1 ? "machine" : "machines"} at one time (${formatMib(size.diskMib)} each), where all else allows ${besideDisk}`;
  const own =
    origin.kind === "tags" ? "the disk of its kind (webhook.machine.disk)" : `pools.${name}.size.disk`;
  const promised = isRemoteDriver(driver)
    ? `the hosts' disk (${hostsSettingOf(driver)})`
    : "vm.overcommit.disk";
  return `disk allows ${count}: free some space, lower ${own}, or raise ${promised}`;
}

function mostBesideDisk({ cpus, memoryMib, machines }: Capacity, size: Size): number {
  return Math.max(
    0,
    Math.min(machines, Math.floor(cpus / size.cpus), Math.floor(memoryMib / size.memoryMib)),
  );
}

function mostByDisk({ diskMib }: Capacity, size: Size): number {
  return diskMib === undefined ? Number.POSITIVE_INFINITY : Math.floor(diskMib / Math.max(1, size.diskMib));
}

function atMost(limit: number, count: number): number {
  return Math.min(limit, count);
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}
