/**
 * `GET /v1/status`: what the running program says of itself, and what the store holds. Asked for every second by who watches, with
 * thousands of jobs: each list is gone through once.
 */
import { askedBy, lackingNote } from "../domain/images.ts";
import { type Pool, poolCapacity } from "../domain/pool.ts";
import type { DaemonStatus, JobView, PoolStatus, Status, Views } from "./api.ts";
import type { DaemonFacts, DaemonReads, HostState, PoolState, ShownProblem } from "./ports.ts";
import type { Readiness } from "./readiness.ts";
import type { TaggedJobViews } from "./tagged-jobs.ts";
import type { WaitingView, WebhookStatus, WebhookViews } from "./webhook-api.ts";

/** Jobs that ended and are shown. */
const RECENT = 8;
/** Where those are looked for, newest first: a job that was claimed long ago may have ended just now. */
const RECENT_OF = 100;

/** What of the status only the running program knows. */
export interface StatusReads {
  status(): DaemonStatus | Promise<DaemonStatus>;
  /** Undefined when `http.listen` names nothing. */
  readonly publicServer?: PublicServerReads | undefined;
  /** Undefined when the configuration has no `webhook`. */
  readonly webhook?: TaggedJobViews | undefined;
}

export interface PublicServerReads {
  /** Where it listens now, as addresses people can use: `https://0.0.0.0:8443`. */
  addresses(): readonly string[];
  readiness(): Readiness | Promise<Readiness>;
}

export async function composeStatus(reads: StatusReads, views: Views & WebhookViews): Promise<Status> {
  const { webhook: tagged, publicServer } = reads;
  const [daemon, unfinished, newest, liveMachines, webhook, readiness] = await Promise.all([
    reads.status(),
    views.jobs({ live: true }),
    views.jobs({ limit: RECENT_OF }),
    views.liveMachines(),
    tagged ? composeWebhook(tagged, publicServer, views) : null,
    publicServer ? publicServer.readiness() : null,
  ]);
  const inPool = Map.groupBy(unfinished, ({ pool }) => pool);
  const waitingFor = Map.groupBy(webhook?.waiting ?? [], ({ pool }) => pool);
  const served =
    publicServer && readiness
      ? { addresses: [...publicServer.addresses()], problems: [...readiness.problems] }
      : null;
  const fetching = new Set(daemon.fetching);
  return {
    ...daemon,
    pools: daemon.pools
      // A set of tags is of interest while somebody asks for it: there may be hundreds that were asked for once.
      .filter(({ name, origin }) => origin !== "tags" || inPool.has(name) || waitingFor.has(name))
      .map((pool) => ({ ...pool, ...countsOf(inPool.get(pool.name), waitingFor.get(pool.name)) })),
    unfinished: unfinished.map((job) => ({ ...job, fetching: fetching.has(job.machineId ?? "") })),
    liveMachines,
    recent: newest
      .filter(({ state }) => state === "finished")
      .toSorted((a, b) => (b.finishedAt ?? 0) - (a.finishedAt ?? 0))
      .slice(0, RECENT),
    publicServer: served,
    door: served,
    webhook,
  };
}

/** A job that has been claimed and has no machine yet is queued as one that waits in GitLab is: what it lacks is the machine. */
function countsOf(
  unfinished: readonly JobView[] = [],
  waiting: readonly WaitingView[] = [],
): Pick<Status["pools"][number], "running" | "starting" | "queued" | "waiting"> {
  const count = (wanted: JobView["state"]) => unfinished.filter(({ state }) => state === wanted).length;
  const starting = count("starting");
  const queued = count("claimed") + waiting.length;
  return { running: count("running"), starting, queued, waiting: starting + queued };
}

/** `GET /v1/webhook`: what is known of jobs by tag, and what the store holds of their runners. */
export async function composeWebhook(
  tagged: TaggedJobViews,
  publicServer: PublicServerReads | undefined,
  views: WebhookViews,
): Promise<WebhookStatus> {
  const [status, runners, projects, [lastDelivery = null]] = await Promise.all([
    tagged.status(),
    views.runners(),
    views.projects(),
    views.deliveries({ limit: 1 }),
  ]);
  const count = (wanted: string) => runners.filter(({ state }) => state === wanted).length;
  const listeners = [...(publicServer?.addresses() ?? [])];
  return {
    ...status,
    listeners,
    doors: listeners,
    lastDelivery,
    projects,
    runners: { creating: count("creating"), active: count("active"), retiring: count("retiring") },
    waiting: [...tagged.waiting()],
  };
}

/** What the modules say of themselves. */
export function describeDaemon(reads: DaemonReads): DaemonStatus {
  const { version, startedAt, configFile, ...facts } = reads.facts();
  const { stateDirectory, gitlabUrl } = facts;
  const { hosts, pools, work, fetching } = reads.scheduler.status();
  const claiming = new Map(reads.claimer.status().map((each) => [each.pool, each.reason ?? each.state]));
  const known = reads.pools();
  return {
    ...{ version, startedAt, stateDirectory, gitlabUrl },
    pid: process.pid,
    mode: reads.scheduler.mode(),
    configFile: configFile ?? null,
    gitlabProblem: reads.outage() ?? null,
    pools: pools.flatMap((state) => {
      const pool = known.get(state.pool);
      if (!pool) return [];
      const how = claiming.get(pool.name) ?? "not started";
      return [{ ...poolStatus(pool, state, hosts, facts), ...tokenNoteOf(reads, pool), claiming: how }];
    }),
    hosts: hosts.map(hostStatus),
    fetching: [...fetching],
    troubles: [
      ...work.flatMap(({ name, cooldown }) => (cooldown ? [`${name}: ${cooldown.error}`] : [])),
      ...reads.notices(),
    ],
    caches: [],
  };
}

function poolStatus(
  pool: Pool,
  { ok, problems, accelerator, image }: PoolState,
  hosts: readonly HostState[],
  facts: Pick<DaemonFacts, "neededAbilities">,
): Omit<PoolStatus, "claiming"> {
  return {
    name: pool.name,
    origin: pool.origin.kind,
    ok,
    problems: problems.map(toProblem),
    accelerator: accelerator ?? null,
    driver: pool.driver,
    image: pool.image,
    size: pool.size,
    limit: pool.concurrency,
    room: capacityFor(pool, hosts),
    ...imageNoteOf(pool, image, facts),
  };
}

function hostStatus({
  isDrained,
  capacity,
  problem,
  hint,
  ...host
}: HostState): DaemonStatus["hosts"][number] {
  return {
    ...host,
    drained: isDrained,
    capacity: capacity ? { ...capacity, diskMib: capacity.diskMib ?? null } : null,
    problem: problem ?? null,
    hint: hint ?? null,
  };
}

function imageNoteOf(
  pool: Pool,
  image: PoolState["image"],
  { neededAbilities }: Pick<DaemonFacts, "neededAbilities">,
): Pick<PoolStatus, "imageNote"> {
  if (image?.abilities === undefined) return {};
  const { abilities, variant } = image;
  const imageNote = lackingNote({ name: pool.image, variant, abilities }, [
    ...neededAbilities,
    ...askedBy(pool),
  ]);
  return imageNote ? { imageNote } : {};
}

function tokenNoteOf({ tokenProblem }: DaemonReads, { name }: Pool): Pick<PoolStatus, "tokenNote"> {
  const found = tokenProblem(name);
  return found ? { tokenNote: toProblem(found) } : {};
}

/** How many machines of a pool the hosts have capacity for, of those that have told what they have. */
function capacityFor(pool: Pool, hosts: readonly HostState[]): PoolStatus["room"] {
  const known = hosts.flatMap(({ capacity, ...host }) => (capacity ? [{ ...host, capacity }] : []));
  const { machines, byDisk, note } = poolCapacity(pool, known);
  return { machines, byDisk: byDisk ?? null, note: note ?? null };
}

function toProblem({ problem, hint }: ShownProblem): { problem: string; hint: string | null } {
  return { problem, hint: hint ?? null };
}
