/** What is done to an installation and when, from a seed: the same seed gives the same schedule. Pure. */
import type { Random } from "../simulation/random.ts";

/** How often each kind comes in one round of all of them. */
const weights = {
  "manager killed": 4,
  "manager told to end": 1,
  "manager frozen": 1,
  "machine killed": 4,
  "job canceled": 3,
  "GitLab down": 2,
  "GitLab answers 5xx": 2,
  "GitLab slow": 1,
  "GitLab loses answers": 1,
  "host without power": 2,
  "host without network": 2,
  "flintlockd restarted": 1,
  "containerd stopped": 1,
  "disk full": 2,
  "clock stepped": 2,
  "names fail": 2,
  partition: 3,
  "one way": 3,
  delay: 2,
  loss: 2,
  reset: 2,
  refused: 2,
  "half open": 3,
} as const;
export type FaultKind = keyof typeof weights;
export const faultKinds = Object.keys(weights) as FaultKind[];

/** Kinds that hit a link, and those that hit a host. */
const ofLinks: ReadonlySet<FaultKind> = new Set([
  ...(["partition", "one way", "delay", "loss", "reset", "refused", "half open"] as const),
]);
const ofHosts: ReadonlySet<FaultKind> = new Set([
  ...(["host without power", "host without network", "flintlockd restarted", "containerd stopped"] as const),
]);
/** How far a clock is stepped, in seconds. */
const clockSteps = [-3_600, -90, -5, 5, 90, 600] as const;

/** Times are those of the traffic that is played, from its beginning. */
export interface Fault {
  readonly atMs: number;
  readonly forMs: number;
  readonly kind: FaultKind;
  /** Of a link or a host. */
  readonly target: string | undefined;
  /** Chooses among what there is then, such as machines; of a clock the step in seconds; of one way 0 for there and 1 for back. */
  readonly choice: number;
}

interface ScheduleOptions {
  readonly durationMs: number;
  /** Between the beginnings of two faults: they may overlap. */
  readonly gapMs: readonly [number, number];
  readonly lengthMs: readonly [number, number];
  readonly links: readonly string[];
  readonly hosts: readonly string[];
  /** Kinds that cannot be had here. */
  readonly without: ReadonlySet<FaultKind>;
}

/** Each kind comes as often as it weighs before any comes again. */
export function scheduleFaults(random: Random, options: ScheduleOptions): Fault[] {
  const { durationMs, gapMs, lengthMs, links, hosts, without } = options;
  const faults: Fault[] = [];
  let deck: FaultKind[] = [];
  for (let atMs = random.between(...gapMs); atMs < durationMs; atMs += random.between(...gapMs)) {
    if (deck.length === 0) deck = shuffled(random, without);
    const kind = deck.pop();
    if (kind === undefined) break;
    const forMs = Math.min(random.between(...lengthMs), durationMs - atMs);
    faults.push({ atMs, forMs, kind, ...aim(random, kind, { links, hosts }) });
  }
  return faults;
}

function shuffled(random: Random, without: ReadonlySet<FaultKind>): FaultKind[] {
  const deck = faultKinds
    .filter((kind) => !without.has(kind))
    .flatMap((kind) => Array<FaultKind>(weights[kind]).fill(kind));
  for (let at = deck.length - 1; at > 0; at--) {
    const other = random.between(0, at);
    [deck[at], deck[other]] = [deck[other] as FaultKind, deck[at] as FaultKind];
  }
  return deck;
}

function aim(
  random: Random,
  kind: FaultKind,
  { links, hosts }: Pick<ScheduleOptions, "links" | "hosts">,
): Pick<Fault, "target" | "choice"> {
  if (kind === "clock stepped") return { target: undefined, choice: random.pick(clockSteps) };
  if (kind === "one way") return { target: random.pick(links), choice: random.between(0, 1) };
  const choice = random.between(0, 1_000_000);
  if (ofLinks.has(kind)) return { target: random.pick(links), choice };
  return { target: ofHosts.has(kind) ? random.pick(hosts) : undefined, choice };
}

export function wordsOf({ kind, target, choice }: Fault): string {
  if (kind === "clock stepped") return `clock stepped by ${choice} s`;
  if (kind === "one way") return `one way: nothing ${choice === 0 ? "gets there" : "comes back"}, ${target}`;
  return target === undefined ? kind : `${kind}, ${target}`;
}
