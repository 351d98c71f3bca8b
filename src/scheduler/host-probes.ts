/** Finds out whether an image can be had and whether hosts can run it: the probes behind the health of pools (health.ts). */
import type { Clock } from "../base/clock.ts";
import { withDeadline } from "../base/deadline.ts";
import { describeError, type FireRunnerError, hintOf } from "../base/errors.ts";
import { formatBytes } from "../base/units.ts";
import { isLocalHost } from "../domain/placement.ts";
import type { Pool } from "../domain/pool.ts";
import type { Fleet, VmDriver } from "../vm/driver.ts";
import { limitOf } from "./errors.ts";
import type { ImageSource, ReadyImage } from "./ports.ts";

export interface PoolProblem {
  /** In words for the operator. */
  readonly problem: string;
  readonly hint: string | undefined;
}

/** What has to work for a machine: looked at once, however many pools share it. */
export type MachineBase = Pick<Pool, "driver" | "image" | "hostLabels" | "containers">;

/** The file system on which machines have their disks. */
export interface DiskWatch {
  freeBytes(): Promise<number>;
  /** Below this nothing is claimed. */
  readonly minFreeBytes: number;
  /** Why no image that a job names could be fetched; undefined while there is room. Then no pool that runs such jobs claims any. */
  roomForImages?(): Promise<FireRunnerError | undefined>;
}

/** A first probe boots a machine, perhaps under emulation. */
const PROBE_LIMIT_MS = 120_000;

export interface Finding {
  readonly problems: readonly PoolProblem[];
  readonly accelerator?: string;
}

export type Seen = Finding & { readonly checkedAt: number };

export type FoundImage = { readonly image: ReadyImage } | { readonly problem: PoolProblem };

export const notSeen: Finding = { problems: [{ problem: "it has not been looked at yet", hint: undefined }] };

interface ProbeDeps {
  readonly clock: Clock;
  readonly fleet: Pick<Fleet, "hosts">;
  readonly disk: DiskWatch;
}

/** Probes of hosts with images, each at most once at a time. */
export function createProbes(
  { clock, fleet, disk }: ProbeDeps,
  imageOf: (name: string) => FoundImage | undefined,
  onFound: (key: string, found: Seen) => void,
) {
  const running = new Map<string, VmDriver>();
  /** Those among them whose hosts have become well since: what is found may be of before. */
  const outdated = new Set<string>();

  async function once(due: Due, signal: AbortSignal): Promise<void> {
    const { key, host, driver, image } = due;
    if (running.get(key) === driver) return;
    running.set(key, driver);
    const finding = await probeHost(clock, driver, imageOf(image), signal);
    if (running.get(key) !== driver) return;
    running.delete(key);
    if (fleet.hosts().get(host) !== driver) return;
    const local = isLocalHost(driver.host) ? await diskProblems(disk) : [];
    onFound(key, { ...finding, problems: [...finding.problems, ...local], checkedAt: clock.now() });
    if (outdated.delete(key)) await once(due, signal);
  }

  return {
    once,
    async repeat(due: Due, signal: AbortSignal): Promise<void> {
      if (running.get(due.key) === due.driver) outdated.add(due.key);
      else await once(due, signal);
    },
  };
}

export async function findImages(images: ImageSource, wanted: readonly MachineBase[]) {
  const names = [...new Set(wanted.map(({ image }) => image))];
  return new Map(
    await Promise.all(names.map(async (name) => [name, await findImage(images, name)] as const)),
  );
}

/** One image to be tried on one host. */
interface Due {
  readonly key: string;
  readonly host: string;
  readonly driver: VmDriver;
  readonly image: string;
}

export function dueOn(wanted: readonly MachineBase[], hosts: ReadonlyMap<string, VmDriver>): Due[] {
  return [...hosts].flatMap(([host, driver]) =>
    imagesOf(wanted, driver).map((image) => ({ key: keyOf(host, image), host, driver, image })),
  );
}

/** The images that machines of this driver are wanted with. */
function imagesOf(wanted: readonly MachineBase[], { name }: VmDriver): string[] {
  return [...new Set(wanted.filter(({ driver }) => driver === name).map(({ image }) => image))];
}

export function keyOf(host: string, image: string): string {
  return `${host} ${image}`;
}

async function findImage(images: ImageSource, name: string): Promise<FoundImage> {
  return await images.resolve(name).then(
    (image) => ({ image }),
    (error: unknown) => ({ problem: asProblem(error) }),
  );
}

async function probeHost(
  clock: Clock,
  driver: VmDriver,
  found: FoundImage | undefined,
  signal: AbortSignal,
): Promise<Finding> {
  if (!found) return notSeen;
  if ("problem" in found) return { problems: [found.problem] };
  try {
    const doing = `trying the ${driver.name} driver`;
    const probe = await withDeadline(clock, limitOf(doing, PROBE_LIMIT_MS, signal), (each) =>
      driver.probe(found.image, each),
    );
    if (!probe.usable) return { problems: [{ problem: probe.problem, hint: probe.hint }] };
    return { problems: [], accelerator: probe.accelerator };
  } catch (error) {
    return { problems: [asProblem(error)] };
  }
}

async function diskProblems(disk: DiskWatch): Promise<PoolProblem[]> {
  try {
    const freeBytes = await disk.freeBytes();
    if (freeBytes >= disk.minFreeBytes) return [];
    const words = `${formatBytes(freeBytes)} are free for the disks of machines, ${formatBytes(disk.minFreeBytes)} are wanted`;
    return [{ problem: words, hint: "free some space, or lower vm.minFreeDisk" }];
  } catch (error) {
    return [asProblem(error)];
  }
}

/** Of pools whose jobs name images: whether one comes that names none cannot be known before it is claimed. */
export async function roomProblem(disk: DiskWatch): Promise<PoolProblem | undefined> {
  const found = await disk.roomForImages?.().catch((error: unknown) => error);
  return found === undefined ? undefined : asProblem(found);
}

function asProblem(error: unknown): PoolProblem {
  return {
    problem: describeError(error),
    hint: hintOf(error),
  };
}
