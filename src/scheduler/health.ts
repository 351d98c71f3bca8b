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

export interface HealthDeps {
  readonly drivers: ReadonlyMap<string, VmDriver>;
  readonly images: ImageSource;
  readonly pools: Pools;
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
  of(pool: string): PoolHealth;
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

export function createHealth(deps: HealthDeps): Health {
  const { pools, clock, log } = deps;
  let known = new Map<string, PoolHealth>();

  function of(name: string): PoolHealth {
    const found = known.get(name);
    if (found && pools().has(name)) return found;
    const problem = pools().has(name) ? "it has not been looked at yet" : "it is not configured";
    const problems = [{ problem, hint: undefined }];
    return {
      pool: name,
      ok: false,
      problems,
      accelerator: undefined,
      checkedAt: undefined,
      runnerInfo: undefined,
    };
  }

  async function refresh(signal: AbortSignal): Promise<void> {
    const disk = await diskProblems(deps);
    const entries = [...pools().values()].map(async (pool): Promise<[string, PoolHealth]> => {
      const { problems, accelerator, runnerInfo } = await lookAt(deps, pool, signal);
      const all = [...problems, ...disk];
      const ok = all.length === 0;
      return [
        pool.name,
        { pool: pool.name, ok, problems: all, accelerator, checkedAt: clock.now(), runnerInfo },
      ];
    });
    const before = known;
    known = new Map(await Promise.all(entries));
    const changed = [...known.values()].filter(
      (health) => problemsOf(before.get(health.pool)) !== problemsOf(health),
    );
    for (const health of changed) logChange(log, health);
    if (changed.length > 0) deps.onHealthChange?.();
  }

  return { of, all: () => [...pools().keys()].map(of), refresh };
}

async function lookAt(
  { drivers, images, clock }: HealthDeps,
  pool: Pool,
  signal: AbortSignal,
): Promise<Finding> {
  const driver = drivers.get(pool.driver);
  if (!driver) return { problems: [{ problem: `there is no driver ${pool.driver} here`, hint: undefined }] };
  try {
    const image = await images.resolve(pool.image);
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
function problemsOf(health: PoolHealth | undefined): string | undefined {
  return health?.problems.map(({ problem }) => problem).join("; ");
}

function logChange(log: Log, now: PoolHealth): void {
  if (now.ok) log.info({ pool: now.pool, accelerator: now.accelerator }, "pool is ready");
  else log.warn({ pool: now.pool, problems: now.problems }, "pool cannot start machines");
}
