/**
 * Whether machines of a pool could be started now. Looked at in the background and remembered, so that the claimer and
 * `/readyz` have the answer at once. Unknown is not healthy: nothing is claimed before the first look is done.
 */

import type { Clock } from "../base/clock.ts";
import { atMost, withDeadline } from "../base/deadline.ts";
import { describeError, hintOf } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { formatBytes } from "../base/units.ts";
import { isLocalHost, missingLabel } from "../domain/placement.ts";
import type { Pool } from "../domain/pool.ts";
import type { Fleet, HostProblem, VmDriver } from "../vm/driver.ts";
import { limitOf } from "./errors.ts";
import type { ImageSource, Pools, ReadyImage } from "./ports.ts";
import type { Refusals } from "./refusals.ts";

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
  /** What the pool boots; undefined while it has not been found. */
  readonly image?: ReadyImage | undefined;
}

/** What has to work for a machine: looked at once, however many pools share it. */
export type MachineBase = Pick<Pool, "driver" | "image" | "hostLabels">;

export interface HealthDeps {
  readonly fleet: Pick<Fleet, "hosts">;
  readonly images: ImageSource;
  readonly pools: Pools;
  /** Further machines that may be wanted at any time though no pool of theirs exists yet, by a name for people. */
  readonly bases?: () => ReadonlyMap<string, MachineBase>;
  readonly clock: Clock;
  readonly log: Log;
  readonly disk: DiskWatch;
  readonly refusals: Pick<Refusals, "closing">;
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
  /** By name, the images that cannot be used on a host, and why; with `unseen` also those that were not looked at there yet. */
  unusable(host: string, unseen?: "unseen"): ReadonlyMap<string, string>;
  /** The digests of images, by name, as of the last look. */
  digests(): ReadonlyMap<string, string>;
  /** Looks at everything again, but not at hosts that have not answered yet. Never throws: what goes wrong is what is wrong. */
  refresh(signal: AbortSignal): Promise<void>;
  /** Looks at one host again that has become well just now: its pools need not wait for the next look at everything. */
  refreshHost(host: string, signal: AbortSignal): Promise<void>;
}

/** A first probe boots a machine, perhaps under emulation. */
const PROBE_LIMIT_MS = 120_000;
/** How long one look at everything lasts; what takes longer goes on beside the next. */
const PATIENCE_MS = 5_000;

interface Finding {
  readonly problems: readonly PoolProblem[];
  readonly accelerator?: string;
}

type Seen = Finding & { readonly checkedAt: number };

type FoundImage = { readonly image: ReadyImage } | { readonly problem: PoolProblem };

/** Everything that one look found. */
interface Look {
  /** By name. */
  readonly images: ReadonlyMap<string, FoundImage>;
  /** By host and image. */
  readonly hosts: ReadonlyMap<string, Seen>;
}

const unknownPool: Finding = { problems: [{ problem: "it is not configured", hint: undefined }] };
const notSeen: Finding = { problems: [{ problem: "it has not been looked at yet", hint: undefined }] };

export function createHealth(deps: HealthDeps): Health {
  const { pools, clock, log, fleet } = deps;
  const bases = () => deps.bases?.() ?? new Map<string, MachineBase>();
  let seen: Look = { images: new Map(), hosts: new Map() };

  function of(name: string): PoolHealth {
    const base = pools().get(name) ?? bases().get(name);
    return base ? judge(name, base, deps, seen) : describe(name, unknownPool);
  }

  /** Takes over what was found, and tells of the pools that it changes. */
  function learn(found: Look): void {
    const before = new Map(named(pools(), bases()).map((name) => [name, wordsOf(of(name))]));
    seen = found;
    const changed = named(pools(), bases())
      .map(of)
      .filter((now) => before.get(now.pool) !== wordsOf(now));
    for (const now of changed) logChange(log, now);
    if (changed.length > 0) deps.onHealthChange?.();
  }

  const trials = createTrials(
    deps,
    (image) => seen.images.get(image),
    (key, found) => learn({ images: seen.images, hosts: new Map([...seen.hosts, [key, found]]) }),
  );

  async function refreshHost(host: string, signal: AbortSignal): Promise<void> {
    const driver = fleet.hosts().get(host);
    if (!driver) return;
    const due = dueOn([...bases().values(), ...pools().values()], new Map([[host, driver]]));
    await Promise.all(due.map((each) => trials.again(each, signal)));
    // What kept its pools may have been its trouble alone, of which nothing is told here.
    deps.onHealthChange?.();
  }

  async function refresh(signal: AbortSignal): Promise<void> {
    const wanted = [...bases().values(), ...pools().values()];
    const images = await findImages(deps.images, wanted);
    const due = dueOn(wanted, fleet.hosts());
    const keys = new Set(due.map(({ key }) => key));
    learn({ images, hosts: new Map([...seen.hosts].filter(([key]) => keys.has(key))) });
    const tries = due.map((each) => trials.once(each, signal));
    // Who takes longer is heard when he is done; the others are looked at again meanwhile.
    await atMost(clock, PATIENCE_MS, Promise.all(tries));
  }

  function unusable(host: string, unseen?: "unseen"): ReadonlyMap<string, string> {
    const names = new Set([...bases().values(), ...pools().values()].map(({ image }) => image));
    return new Map(
      [...names].flatMap((image): [string, string][] => {
        const finding = seen.hosts.get(keyOf(host, image)) ?? (unseen ? notSeen : undefined);
        const problem = finding?.problems[0];
        return problem ? [[image, problem.problem]] : [];
      }),
    );
  }

  return {
    of,
    all: () => [...new Set([...pools().keys(), ...bases().keys()])].map(of),
    refresh,
    refreshHost,
    unusable,
    digests: () => digestsIn(seen),
  };
}

/** Trials of hosts with images, each at most once at a time. */
function createTrials(
  { clock, fleet, disk }: HealthDeps,
  imageOf: (name: string) => FoundImage | undefined,
  onFound: (key: string, found: Seen) => void,
) {
  const trying = new Map<string, VmDriver>();
  /** Those among them whose hosts have become well since: what is found may be of before. */
  const outdated = new Set<string>();

  async function once(due: Due, signal: AbortSignal): Promise<void> {
    const { key, host, driver, image } = due;
    if (trying.get(key) === driver) return;
    trying.set(key, driver);
    const finding = await tryHost(clock, driver, imageOf(image), signal);
    if (trying.get(key) !== driver) return;
    trying.delete(key);
    if (fleet.hosts().get(host) !== driver) return;
    const local = isLocalHost(driver.host) ? await diskProblems(disk) : [];
    onFound(key, { ...finding, problems: [...finding.problems, ...local], checkedAt: clock.now() });
    if (outdated.delete(key)) await once(due, signal);
  }

  return {
    once,
    async again(due: Due, signal: AbortSignal): Promise<void> {
      if (trying.get(due.key) === due.driver) outdated.add(due.key);
      else await once(due, signal);
    },
  };
}

function digestsIn({ images }: Look): ReadonlyMap<string, string> {
  return new Map(
    [...images].flatMap(([name, found]) => ("image" in found ? [[name, found.image.digest]] : [])),
  );
}

async function findImages(images: ImageSource, wanted: readonly MachineBase[]) {
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

function dueOn(wanted: readonly MachineBase[], hosts: ReadonlyMap<string, VmDriver>): Due[] {
  return [...hosts].flatMap(([host, driver]) =>
    imagesOf(wanted, driver).map((image) => ({ key: keyOf(host, image), host, driver, image })),
  );
}

/** The images that machines of this driver are wanted with. */
function imagesOf(wanted: readonly MachineBase[], { name }: VmDriver): string[] {
  return [...new Set(wanted.filter(({ driver }) => driver === name).map(({ image }) => image))];
}

function keyOf(host: string, image: string): string {
  return `${host} ${image}`;
}

/** A pool is well when one host of its driver is: the others are told of with the hosts. */
function judge(
  name: string,
  base: MachineBase,
  { fleet, refusals }: Pick<HealthDeps, "fleet" | "refusals">,
  seen: Look,
): PoolHealth {
  const hosts = fleet.hosts();
  const image = seen.images.get(base.image);
  const found = image && "image" in image ? image.image : undefined;
  const candidates = [...hosts].filter(
    ([, { name: driver, labels }]) =>
      driver === base.driver && missingLabel(labels, base.hostLabels) === undefined,
  );
  if (candidates.length === 0) return describe(name, noHost(base, hosts), found);
  const findings = candidates.map(([key, driver]) =>
    findingOf(
      driver,
      driver.trouble() ?? refusals.closing(key, found?.digest),
      seen.hosts.get(keyOf(key, base.image)),
    ),
  );
  const best = findings.find(({ problems }) => problems.length === 0);
  const problems = findings.flatMap((finding) => finding.problems);
  return describe(name, best ?? { ...findings[0], problems: unique(problems) }, found);
}

/** With the host's name where there may be several. */
function findingOf(
  driver: VmDriver,
  trouble: HostProblem | undefined,
  seen: Seen = { ...notSeen, checkedAt: 0 },
): Seen {
  const problems = trouble ? [...seen.problems, trouble] : seen.problems;
  if (isLocalHost(driver.host)) return { ...seen, problems };
  return {
    ...seen,
    problems: problems.map(({ problem, hint }) => ({ problem: `${driver.host}: ${problem}`, hint })),
  };
}

function noHost({ driver, hostLabels }: MachineBase, hosts: ReadonlyMap<string, VmDriver>): Finding {
  const ofDriver = [...hosts.values()].filter(({ name }) => name === driver);
  const labels = Object.entries(hostLabels).map(([name, value]) => `${name}: ${value}`);
  const problem =
    ofDriver.length === 0
      ? `there is no host of the driver ${driver} here`
      : `no host of the driver ${driver} has the labels ${labels.join(", ")}`;
  return { problems: [{ problem, hint: undefined }] };
}

function unique(problems: readonly PoolProblem[]): PoolProblem[] {
  return [...new Map(problems.map((each) => [each.problem, each])).values()];
}

function describe(pool: string, finding: Finding & { checkedAt?: number }, image?: ReadyImage): PoolHealth {
  const { problems, accelerator, checkedAt = 0 } = finding;
  const seenAt = checkedAt === 0 ? undefined : checkedAt;
  return {
    ...{ pool, ok: problems.length === 0, problems, accelerator, checkedAt: seenAt },
    ...{ runnerInfo: image?.runnerInfo, image },
  };
}

/** What the log speaks of: not of each of the many pools that differ only in size. */
function named(
  pools: ReadonlyMap<string, Pick<Pool, "origin">>,
  bases: ReadonlyMap<string, unknown>,
): string[] {
  const configured = [...pools].filter(([, { origin }]) => origin.kind === "configured");
  return [...configured.map(([name]) => name), ...bases.keys()];
}

async function findImage(images: ImageSource, name: string): Promise<FoundImage> {
  return await images.resolve(name).then(
    (image) => ({ image }),
    (error: unknown) => ({ problem: asProblem(error) }),
  );
}

async function tryHost(
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

function asProblem(error: unknown): PoolProblem {
  return {
    problem: describeError(error),
    hint: hintOf(error),
  };
}

/** In one string, to be compared. */
function wordsOf({ problems }: PoolHealth): string {
  return problems.map(({ problem }) => problem).join("; ");
}

function logChange(log: Log, now: PoolHealth): void {
  if (now.ok) log.info({ pool: now.pool, accelerator: now.accelerator }, "pool is ready");
  else log.warn({ pool: now.pool, problems: now.problems }, "pool cannot start machines");
}
