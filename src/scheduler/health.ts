/**
 * Whether machines of a pool could be started now. Looked at in the background and remembered, so that the claimer and
 * `/readyz` have the answer at once. Unknown is not healthy: nothing is claimed before the first look is done.
 */
import type { Clock } from "../base/clock.ts";
import { describeError, FireRunnerError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { formatBytes } from "../base/units.ts";
import type { Pool } from "../lifecycle/pool.ts";
import type { VmDriver } from "../vm/driver.ts";
import { withDeadline } from "./deadline.ts";
import type { ImageSource, Pools } from "./ports.ts";

interface PoolProblem {
  /** In words for the operator. */
  readonly problem: string;
  readonly hint: string | undefined;
}

export interface PoolHealth {
  readonly pool: string;
  readonly ok: boolean;
  readonly problems: readonly PoolProblem[];
  /** `kvm`, `tcg`; undefined until the driver has been probed. */
  readonly accelerator: string | undefined;
  /** Epoch ms; undefined before the first look. */
  readonly checkedAt: number | undefined;
  /** `info` of job requests: what the runner in the pool's image says of itself. */
  readonly runnerInfo: Readonly<Record<string, unknown>> | undefined;
}

/** What has to work for a machine: looked at once, however many pools share it. */
export type MachineBase = Pick<Pool, "driver" | "image">;

export interface HealthDeps {
  readonly drivers: ReadonlyMap<string, VmDriver>;
  readonly images: ImageSource;
  readonly pools: Pools;
  /** Further machines that may be wanted at any time though no pool of theirs exists yet, by a name for people. */
  readonly bases?: () => ReadonlyMap<string, MachineBase>;
  readonly clock: Clock;
  readonly log: Log;
  readonly disk: DiskWatch;
  /** A pool can start machines now, or no longer: whoever claims wants to know at once. */
  readonly onHealthChange?: () => void;
}

/** The file system on which machines have their disks. */
export interface DiskWatch {
  freeBytes(): Promise<number>;
  /** Below this nothing is claimed. */
  readonly minFreeBytes: number;
}

export interface Health {
  /** Of a pool, or of a base by its name. */
  of(pool: string): PoolHealth;
  /** Of every pool and every base. */
  all(): PoolHealth[];
  /** Looks at everything again. Never throws: what goes wrong is what is wrong. */
  refresh(signal: AbortSignal): Promise<void>;
}

/** A first probe boots a machine, perhaps under emulation. */
const PROBE_LIMIT_MS = 120_000;

interface Finding {
  readonly problems: readonly PoolProblem[];
  readonly accelerator?: string;
  readonly runnerInfo?: Readonly<Record<string, unknown>>;
}

type Seen = Finding & { readonly checkedAt: number };

const unknownPool: Finding = { problems: [{ problem: "it is not configured", hint: undefined }] };
const notSeen: Finding = { problems: [{ problem: "it has not been looked at yet", hint: undefined }] };

export function createHealth(deps: HealthDeps): Health {
  const { pools, clock, log } = deps;
  const bases = () => deps.bases?.() ?? new Map<string, MachineBase>();
  let seen: ReadonlyMap<string, Seen> = new Map();

  function baseOf(name: string): MachineBase | undefined {
    return pools().get(name) ?? bases().get(name);
  }

  function of(name: string): PoolHealth {
    const base = baseOf(name);
    return describe(name, base ? (seen.get(keyOf(base)) ?? notSeen) : unknownPool);
  }

  async function refresh(signal: AbortSignal): Promise<void> {
    const disk = await diskProblems(deps);
    const wanted = new Map([...bases().values(), ...pools().values()].map((base) => [keyOf(base), base]));
    const looks = [...wanted].map(async ([key, base]): Promise<[string, Seen]> => {
      const finding = await lookAt(deps, base, signal);
      return [key, { ...finding, problems: [...finding.problems, ...disk], checkedAt: clock.now() }];
    });
    const before = seen;
    seen = new Map(await Promise.all(looks));
    const changed = [...seen].filter(([key, now]) => wordsOf(before.get(key)) !== wordsOf(now));
    const keys = new Set(changed.map(([key]) => key));
    for (const [name, base] of named(pools(), bases())) if (keys.has(keyOf(base))) logChange(log, of(name));
    if (changed.length > 0) deps.onHealthChange?.();
  }

  return { of, all: () => [...new Set([...pools().keys(), ...bases().keys()])].map(of), refresh };
}

function keyOf({ driver, image }: MachineBase): string {
  return `${driver} ${image}`;
}

function describe(pool: string, finding: Finding & { checkedAt?: number }): PoolHealth {
  const { problems, accelerator, runnerInfo, checkedAt } = finding;
  return { pool, ok: problems.length === 0, problems, accelerator, checkedAt, runnerInfo };
}

/** What the log speaks of: not of each of the many pools that differ only in size. */
function named(
  pools: ReadonlyMap<string, MachineBase>,
  bases: ReadonlyMap<string, MachineBase>,
): [string, MachineBase][] {
  return [...[...pools].filter(([name]) => !name.includes(":")), ...bases];
}

async function lookAt(
  { drivers, images, clock }: HealthDeps,
  base: MachineBase,
  signal: AbortSignal,
): Promise<Finding> {
  const driver = drivers.get(base.driver);
  if (!driver) return { problems: [{ problem: `there is no driver ${base.driver} here`, hint: undefined }] };
  try {
    const image = await images.resolve(base.image);
    const { runnerInfo } = image;
    const probe = await withDeadline(
      clock,
      PROBE_LIMIT_MS,
      signal,
      `trying the ${driver.name} driver`,
      (each) => driver.probe(image, each),
    );
    if (!probe.usable) return { problems: [{ problem: probe.problem, hint: probe.hint }], runnerInfo };
    return { problems: [], accelerator: probe.accelerator, runnerInfo };
  } catch (error) {
    return { problems: [asProblem(error)] };
  }
}

async function diskProblems({ disk }: HealthDeps): Promise<PoolProblem[]> {
  try {
    const freeBytes = await disk.freeBytes();
    if (freeBytes >= disk.minFreeBytes) return [];
    const words = `${formatBytes(freeBytes)} are free for the disks of machines, ${formatBytes(disk.minFreeBytes)} are wanted`;
    return [{ problem: words, hint: "free some space, or lower vm.minFreeDisk" }];
  } catch (error) {
    return [asProblem(error)];
  }
}

function asProblem(error: unknown): PoolProblem {
  return {
    problem: describeError(error),
    hint: error instanceof FireRunnerError ? error.hint : undefined,
  };
}

/** In one string, to be compared; undefined before the first look. */
function wordsOf(finding: Finding | undefined): string | undefined {
  return finding?.problems.map(({ problem }) => problem).join("; ");
}

function logChange(log: Log, now: PoolHealth): void {
  if (now.ok) log.info({ pool: now.pool, accelerator: now.accelerator }, "pool is ready");
  else log.warn({ pool: now.pool, problems: now.problems }, "pool cannot start machines");
}
