/**
 * Gathers a snapshot. The order is what makes it free of races, without any clock:
 * 1. which machines had been started, 2. what the hosts hold, 3. machines, 4. jobs, 5. machines that jobs name but 3 missed.
 * A machine absent from 2 is missing only if it was in 1. A machine in 2 has its row in 3, since rows come before machines.
 * 2 may be older than this round where a host was slow to answer (see host-lists.ts): 1 is then of the time of the question.
 * A machine in 3 finds its job in 4 as it is, or later; what a guest did before it powered off, or said that it would, is in 4.
 */
import { hostKey, livesOn, type PlacementPolicy } from "../domain/placement.ts";
import type { Job, JobStore, Machine, MachineStore } from "../store/store.ts";
import type { HostCapacities } from "./host-capacities.ts";
import type { HostAnswer, HostLists } from "./host-lists.ts";
import type { GuestEndpoint, Pools } from "./ports.ts";
import type { HostView, Mode, Snapshot } from "./snapshot.ts";

/** What this process knows by itself. */
export interface OwnKnowledge {
  readonly listening: ReadonlySet<string>;
  /** When we asked GitLab ourselves how a job stands, by job. */
  readonly askedAt: ReadonlyMap<number, number>;
  /** Jobs that are said to have ended, and from when on to ask about them. */
  readonly recheckAt: ReadonlyMap<number, number>;
  readonly starting: ReadonlyMap<number, string>;
  readonly avoidedHosts: ReadonlyMap<number, ReadonlySet<string>>;
  readonly since: number;
  readonly mode: Mode;
}

export interface Observed extends Snapshot {
  /** Why a host could not be asked, by key. */
  readonly hostProblems: ReadonlyMap<string, string>;
}

export interface ObserverDeps {
  readonly store: Pick<JobStore, "jobs"> & Pick<MachineStore, "machines" | "machine">;
  readonly lists: HostLists;
  readonly capacities: Pick<HostCapacities, "of" | "refresh" | "noteImages" | "noteUnneeded">;
  readonly placement: PlacementPolicy;
  readonly relay: Pick<GuestEndpoint, "lastHeardAt" | "lastStatusAt" | "endOf">;
  readonly pools: Pools;
}

export async function observe(deps: ObserverDeps, own: OwnKnowledge, signal: AbortSignal): Promise<Observed> {
  const { store, relay, capacities } = deps;
  await capacities.refresh();
  // Before the rows are read: a machine whose row comes too late for them is then still counted here.
  const starting = new Map(own.starting);
  const started = (await store.machines({ live: true })).filter(isStarted).map(({ id }) => id);
  const answers = await deps.lists.ask(new Set(started), signal);
  const live = await store.machines({ live: true });
  const ends = collect(live, ({ id }) => [id, relay.endOf(id)]);
  const jobs = await store.jobs({ unfinished: true });
  capacities.noteImages(live);
  const machines = [...live, ...(await missingMachines(store, jobs, live))];
  noteUnneeded(capacities, machines, answers);
  return {
    jobs,
    machines,
    hosts: new Map([...answers].map(([key, answer]) => [key, viewOf(answer, key, capacities)])),
    hostProblems: collect([...answers], ([key, { problem }]) => [key, problem]),
    placement: deps.placement,
    starting,
    avoidedHosts: own.avoidedHosts,
    settled: settledIn(machines, answers),
    pools: deps.pools(),
    listening: own.listening,
    heardAt: collect(machines, ({ id }) => [id, relay.lastHeardAt(id)]),
    ends,
    statusAt: collect(jobs, (job) => [job.id, statusAt(job, relay, own)]),
    recheckAt: own.recheckAt,
    since: own.since,
    mode: own.mode,
  };
}

function isStarted({ state }: Machine): boolean {
  return state === "booting" || state === "ready" || state === "busy";
}

function viewOf(
  { listed, capacity, driver }: HostAnswer,
  key: string,
  capacities: ObserverDeps["capacities"],
): HostView {
  return { listed, capacity: capacity && capacities.of(key, driver, capacity) };
}

function noteUnneeded(
  capacities: ObserverDeps["capacities"],
  machines: readonly Machine[],
  answers: ReadonlyMap<string, HostAnswer>,
): void {
  const rows = new Map(machines.map((machine) => [machine.id, machine]));
  for (const [key, { listed }] of answers) {
    const unneeded = listed?.filter(({ id, status }) => status.running && !livesOn(rows.get(id), key));
    if (unneeded)
      capacities.noteUnneeded(
        key,
        unneeded.map(({ id }) => id),
      );
  }
}

/** A machine is missed only by the host that should have it, and only if it had been started when that host was asked. */
function settledIn(live: readonly Machine[], answers: ReadonlyMap<string, HostAnswer>): Set<string> {
  const settled = live.filter((machine) => answers.get(hostKey(machine))?.settled.has(machine.id));
  return new Set(settled.map(({ id }) => id));
}

async function missingMachines(
  store: ObserverDeps["store"],
  jobs: readonly Job[],
  live: readonly Machine[],
): Promise<Machine[]> {
  const known = new Set(live.map(({ id }) => id));
  const wanted = jobs.flatMap(({ machineId }) => (machineId && !known.has(machineId) ? [machineId] : []));
  const found = await Promise.all(wanted.map((id) => store.machine(id)));
  return found.filter((machine) => machine !== undefined);
}

function statusAt(job: Job, relay: ObserverDeps["relay"], own: OwnKnowledge): number | undefined {
  const heard = job.machineId === null ? undefined : relay.lastStatusAt(job.machineId);
  const asked = own.askedAt.get(job.id);
  return heard === undefined && asked === undefined ? undefined : Math.max(heard ?? 0, asked ?? 0);
}

function collect<Item, Key, Value>(
  items: readonly Item[],
  entry: (item: Item) => [Key, Value | undefined],
): Map<Key, Value> {
  const pairs = items.map(entry);
  return new Map(pairs.filter((pair): pair is [Key, Value] => pair[1] !== undefined));
}
