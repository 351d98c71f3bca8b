/**
 * Whether machines of a pool could be started now. Looked at in the background and remembered, so that the claimer and
 * `/readyz` have the answer at once. Unknown is not healthy: nothing is claimed before the first look is done.
 */
import type { Clock } from "../base/clock.ts";
import { atMost } from "../base/deadline.ts";
import type { Log } from "../base/log.ts";
import { containersUse } from "../domain/containers.ts";
import { isLocalHost, missingLabel } from "../domain/placement.ts";
import type { Pool } from "../domain/pool.ts";
import type { Fleet, HostProblem, VmDriver } from "../vm/driver.ts";
import {
  createProbes,
  type DiskWatch,
  dueOn,
  type Finding,
  type FoundImage,
  findImages,
  keyOf,
  type MachineBase,
  notSeen,
  type PoolProblem,
  roomProblem,
  type Seen,
} from "./host-probes.ts";
import type { ImageSource, Pools, ReadyImage } from "./ports.ts";
import type { Refusals } from "./refusals.ts";

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

interface HealthDeps {
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

/** How long one look at everything lasts; what takes longer goes on beside the next. */
const PATIENCE_MS = 5_000;

/** Everything that one look found. */
interface Found {
  /** By name. */
  readonly images: ReadonlyMap<string, FoundImage>;
  /** By host and image. */
  readonly hosts: ReadonlyMap<string, Seen>;
  /** Why images that jobs name cannot be fetched. */
  readonly noRoom: PoolProblem | undefined;
}

const unknownPool: Finding = { problems: [{ problem: "it is not configured", hint: undefined }] };

export function createHealth(deps: HealthDeps): Health {
  const { pools, clock, log, fleet } = deps;
  const bases = () => deps.bases?.() ?? new Map<string, MachineBase>();
  let seen: Found = { images: new Map(), hosts: new Map(), noRoom: undefined };

  function of(name: string): PoolHealth {
    const base = pools().get(name) ?? bases().get(name);
    return base ? healthOf(name, base, deps, seen) : describe(name, unknownPool);
  }

  /** Takes over what was found, and tells of the pools that it changes. */
  function learn(found: Found): void {
    const before = new Map(namesIn(pools(), bases()).map((name) => [name, wordsOf(of(name))]));
    seen = found;
    const changed = namesIn(pools(), bases())
      .map(of)
      .filter((now) => before.get(now.pool) !== wordsOf(now));
    for (const now of changed) logChange(log, now);
    if (changed.length > 0) deps.onHealthChange?.();
  }

  const probes = createProbes(
    deps,
    (image) => seen.images.get(image),
    (key, found) => learn({ ...seen, hosts: new Map([...seen.hosts, [key, found]]) }),
  );

  async function refreshHost(host: string, signal: AbortSignal): Promise<void> {
    const driver = fleet.hosts().get(host);
    if (!driver) return;
    const due = dueOn([...bases().values(), ...pools().values()], new Map([[host, driver]]));
    await Promise.all(due.map((each) => probes.repeat(each, signal)));
    // What kept its pools may have been a problem of the driver alone, of which nothing is told here.
    deps.onHealthChange?.();
  }

  async function refresh(signal: AbortSignal): Promise<void> {
    const wanted = [...bases().values(), ...pools().values()];
    const images = await findImages(deps.images, wanted);
    const noRoom = await roomProblem(deps.disk);
    const due = dueOn(wanted, fleet.hosts());
    const keys = new Set(due.map(({ key }) => key));
    learn({ images, noRoom, hosts: new Map([...seen.hosts].filter(([key]) => keys.has(key))) });
    const begun = due.map((each) => probes.once(each, signal));
    // Who takes longer is heard when he is done; the others are looked at again meanwhile.
    await atMost(clock, PATIENCE_MS, Promise.all(begun));
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

function digestsIn({ images }: Found): ReadonlyMap<string, string> {
  return new Map(
    [...images].flatMap(([name, found]) => ("image" in found ? [[name, found.image.digest]] : [])),
  );
}

/** A pool is well when one host of its driver is: the others are told of with the hosts. */
function healthOf(
  name: string,
  base: MachineBase,
  { fleet, refusals }: Pick<HealthDeps, "fleet" | "refusals">,
  seen: Found,
): PoolHealth {
  const hosts = fleet.hosts();
  const image = seen.images.get(base.image);
  const found = image && "image" in image ? image.image : undefined;
  const candidates = [...hosts].filter(
    ([, { name: driver, labels }]) =>
      driver === base.driver && missingLabel(labels, base.hostLabels) === undefined,
  );
  const runnerInfo = found && announcedInfo(base, found);
  if (candidates.length === 0) return { ...describe(name, noHost(base, hosts), found), runnerInfo };
  const findings = candidates.map(([key, driver]) =>
    findingOf(
      driver,
      driver.trouble() ?? refusals.closing(key, found?.digest),
      seen.hosts.get(keyOf(key, base.image)),
    ),
  );
  const best = findings.find(({ problems }) => problems.length === 0);
  const use = found && containersUse(base, found);
  const hasDisks = use?.kind === "run" && use.images === "disks";
  const noRoom = hasDisks && seen.noRoom !== undefined ? [seen.noRoom] : [];
  const problems = best ? noRoom : [...findings.flatMap((finding) => finding.problems), ...noRoom];
  return { ...describe(name, { ...(best ?? findings[0]), problems: unique(problems) }, found), runnerInfo };
}

/** What GitLab is to believe of the runner: it can do more in containers. */
export function announcedInfo(base: MachineBase, image: ReadyImage): ReadyImage["runnerInfo"] {
  const inContainers = containersUse(base, image).kind === "run" ? image.containerRunnerInfo : undefined;
  return inContainers ?? image.runnerInfo;
}

/** With the host's name where there may be several. */
function findingOf(
  driver: VmDriver,
  problem: HostProblem | undefined,
  seen: Seen = { ...notSeen, checkedAt: 0 },
): Seen {
  const problems = problem ? [...seen.problems, problem] : seen.problems;
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
    ...{ runnerInfo: undefined, image },
  };
}

/** What the log speaks of: not of each of the many pools that differ only in size. */
function namesIn(
  pools: ReadonlyMap<string, Pick<Pool, "origin">>,
  bases: ReadonlyMap<string, unknown>,
): string[] {
  const configured = [...pools].filter(([, { origin }]) => origin.kind === "configured");
  return [...configured.map(([name]) => name), ...bases.keys()];
}

/** In one string, to be compared. */
function wordsOf({ problems }: PoolHealth): string {
  return problems.map(({ problem }) => problem).join("; ");
}

function logChange(log: Log, now: PoolHealth): void {
  if (now.ok) log.info({ pool: now.pool, accelerator: now.accelerator }, "pool is ready");
  else log.warn({ pool: now.pool, problems: now.problems }, "pool cannot start machines");
}
