/**
 * Gathers a snapshot. The order is what makes it free of races, without any clock:
 * 1. which machines had been started, 2. what the hosts hold, 3. machines, 4. jobs, 5. machines that jobs name but 3 missed.
 * A machine absent from 2 is missing only if it was in 1. A machine in 2 has its row in 3, since rows come before machines.
 * 2 may be older than this round where a host was slow to answer (see `HostLists`): 1 is then of the time of the question.
 * A machine in 3 finds its job in 4 as it is, or later; what a guest did before it powered off, or said that it would, is in 4.
 */

import type { Clock } from "../base/clock.ts";
import { atMost, withDeadline } from "../base/deadline.ts";
import { describeError } from "../base/errors.ts";
import { formatDuration } from "../base/units.ts";
import { hostKey, livesOn, type PlacementPolicy } from "../domain/placement.ts";
import type { Capacity } from "../domain/size.ts";
import type { Job, JobStore, Machine, MachineStore } from "../store/store.ts";
import type { DriverMachine, Fleet, VmDriver } from "../vm/driver.ts";
import { limitOf } from "./errors.ts";
import type { HostCapacities } from "./host-capacities.ts";
import type { GuestEndpoint, Pools } from "./ports.ts";
import type { HostView, Mode, Snapshot } from "./snapshot.ts";

/** What this process knows by itself. */
interface OwnKnowledge {
  readonly listening: ReadonlySet<string>;
  /** When we asked GitLab ourselves how a job stands, by job. */
  readonly askedAt: ReadonlyMap<number, number>;
  /** Jobs that are said to have ended, and from when on to ask about them. */
  readonly recheckAt: ReadonlyMap<number, number>;
  readonly starting: ReadonlyMap<number, string>;
  readonly avoidedHosts: ReadonlyMap<number, ReadonlySet<string>>;
  /** How long a job waited for its images, by job. */
  readonly fetchedMs: ReadonlyMap<number, number>;
  readonly since: number;
  readonly steppedAt?: number | undefined;
  readonly mode: Mode;
}

export interface Observed extends Snapshot {
  /** Why a host could not be asked, by key. */
  readonly hostProblems: ReadonlyMap<string, string>;
}

interface ObserverDeps {
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
    fetchedMs: own.fetchedMs,
    settled: settledIn(machines, answers),
    pools: deps.pools(),
    listening: own.listening,
    heardAt: collect(machines, ({ id }) => [id, relay.lastHeardAt(id)]),
    ends,
    statusAt: collect(jobs, (job) => [job.id, statusAt(job, relay, own)]),
    recheckAt: own.recheckAt,
    since: own.since,
    steppedAt: own.steppedAt,
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

// What hosts hold ------------------------------------------------------------------------------------------------

/** How long a round waits for hosts that answered the last time. */
const PATIENCE_MS = 1_000;
/** A question that has no answer by now gets none. */
const ANSWER_LIMIT_MS = 5_000;

interface HostAnswer {
  readonly driver: VmDriver;
  /** Undefined where the host could not tell; `problem` says why. */
  readonly listed: readonly DriverMachine[] | undefined;
  readonly capacity: Capacity | undefined;
  readonly problem: string | undefined;
  /** Machines that had been started before the host was asked. */
  readonly settled: ReadonlySet<string>;
}

/**
 * Asks every host what it holds, so that one that does not answer holds up nobody: a round waits for it once, for a moment. Its
 * answer counts whenever it comes, since it is kept with what was known when the question was asked.
 */
interface HostLists {
  /** What each host answers, by key. `settled`: the machines that have been started by now. */
  ask(settled: ReadonlySet<string>, signal: AbortSignal): Promise<ReadonlyMap<string, HostAnswer>>;
}

interface HostListsDeps {
  readonly fleet: Pick<Fleet, "hosts">;
  readonly clock: Clock;
  /** A host answers for which no round has waited. */
  readonly onLateAnswer: (key: string) => void;
}

interface Question {
  readonly driver: VmDriver;
  readonly settled: ReadonlySet<string>;
  readonly askedAt: number;
  done: Promise<void>;
  answer: HostAnswer | undefined;
}

const nobody: ReadonlySet<string> = new Set();

export function createHostLists({ fleet, clock, onLateAnswer }: HostListsDeps): HostLists {
  const open = new Map<string, Question>();
  /** Hosts that had no answer for the last round. */
  const late = new Set<string>();

  function begin(key: string, driver: VmDriver, settled: ReadonlySet<string>, signal: AbortSignal): Question {
    const question: Question = {
      driver,
      settled,
      askedAt: clock.now(),
      done: Promise.resolve(),
      answer: undefined,
    };
    question.done = answerOf(clock, key, driver, signal).then((answer) => {
      question.answer = { ...answer, driver, settled };
      if (late.has(key) && open.get(key) === question) onLateAnswer(key);
    });
    open.set(key, question);
    return question;
  }

  /** The answer, if there is one by now; another question is then due. */
  function take(key: string, driver: VmDriver): HostAnswer {
    const question = open.get(key);
    if (question?.answer) {
      open.delete(key);
      if (question.answer.listed) late.delete(key);
      return question.answer;
    }
    late.add(key);
    const forMs = clock.now() - (question?.askedAt ?? clock.now());
    const problem = `it was asked for its machines ${formatDuration(forMs)} ago and has not answered`;
    return { driver, listed: undefined, capacity: undefined, problem, settled: nobody };
  }

  async function ask(settled: ReadonlySet<string>, signal: AbortSignal) {
    const hosts = fleet.hosts();
    for (const key of [...open.keys(), ...late])
      if (open.get(key)?.driver !== hosts.get(key)) {
        open.delete(key);
        late.delete(key);
      }
    const awaited: Promise<void>[] = [];
    for (const [key, driver] of hosts) {
      const question = open.get(key) ?? begin(key, driver, settled, signal);
      if (!late.has(key)) awaited.push(question.done);
    }
    await atMost(clock, PATIENCE_MS, Promise.all(awaited));
    return new Map([...hosts].map(([key, driver]) => [key, take(key, driver)]));
  }

  return { ask };
}

type Told = Pick<HostAnswer, "listed" | "capacity" | "problem">;

async function answerOf(clock: Clock, key: string, driver: VmDriver, signal: AbortSignal): Promise<Told> {
  const doing = `asking ${key} for its machines`;
  try {
    return await withDeadline(clock, limitOf(doing, ANSWER_LIMIT_MS, signal), async (each) => {
      const [list, capacity] = await Promise.allSettled([driver.list(each), driver.capacity()]);
      const failed = [list, capacity].find(({ status }) => status === "rejected");
      return {
        listed: list.status === "fulfilled" ? list.value : undefined,
        capacity: capacity.status === "fulfilled" ? capacity.value : undefined,
        problem: failed?.status === "rejected" ? describeError(failed.reason) : undefined,
      };
    });
  } catch (error) {
    return { listed: undefined, capacity: undefined, problem: describeError(error) };
  }
}
