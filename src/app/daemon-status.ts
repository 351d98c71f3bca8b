import { systemClock } from "../base/clock.ts";
import type { Config } from "../config/load.ts";
import { neededAbilities } from "../config/machine-kinds.ts";
import { namedScopeOf } from "../discovery/scope.ts";
import { lackingNote } from "../domain/images.ts";
import type { Pool } from "../domain/pool.ts";
import { poolCapacity } from "../domain/pool.ts";
import { describeOutage } from "../gitlab/reach.ts";
import { blockersOf } from "../scheduler/explain.ts";
import type { ReadyImage } from "../scheduler/ports.ts";
import type { WebhookPorts } from "../server/control/ports.ts";
import type { PublicServer } from "../server/public/public-server.ts";
import type { Readiness } from "../server/public/webhook-route.ts";
import type { DaemonStatus, PoolStatus } from "../views/api.ts";
import type { Components } from "./compose.ts";
import type { TokenProblem } from "./pool-tokens.ts";
import { readinessOf } from "./readiness.ts";
import { createWebhookPorts } from "./webhook-ports.ts";

/** What the rooms say of themselves, in the words of the control interface. */
export function describeDaemon(
  {
    scheduler,
    claimer,
    reach,
    pools: currentPools,
    standIns,
    tokens,
  }: Pick<Components, "scheduler" | "claimer" | "reach" | "pools" | "standIns" | "tokens">,
  config: Config,
  about: { version: string; startedAt: number },
): DaemonStatus {
  const { mode, hosts, pools, work } = scheduler.status();
  const known = currentPools();
  const claiming = new Map(claimer.status().map((each) => [each.pool, each.reason ?? each.state]));
  return {
    ...about,
    pid: process.pid,
    mode,
    configFile: config.file ?? null,
    stateDirectory: config.state,
    gitlabUrl: config.gitlab.url,
    gitlabProblem: describeOutage(reach.outage(), systemClock.now()) ?? null,
    pools: pools.flatMap(({ pool: name, ok, problems, accelerator, image }) => {
      const pool = known.get(name);
      if (!pool) return [];
      return {
        name,
        origin: pool.origin.kind,
        ok,
        problems: problems.map(({ problem, hint }) => ({ problem, hint: hint ?? null })),
        accelerator: accelerator ?? null,
        driver: pool.driver,
        image: pool.image,
        size: pool.size,
        limit: pool.concurrency,
        room: roomOf(pool, hosts),
        ...(image ? imageNoteOf(pool, image, config) : {}),
        claiming: claiming.get(name) ?? "not started",
        ...tokenNoteOf(tokens.problem(name)),
      };
    }),
    hosts: hosts.map(({ isDrained, capacity, problem, hint, ...host }) => ({
      ...host,
      drained: isDrained,
      capacity: capacity ? { ...capacity, diskMib: capacity.diskMib ?? null } : null,
      problem: problem ?? null,
      hint: hint ?? null,
    })),
    troubles: [
      ...work.flatMap(({ name, resting }) => (resting ? [`${name}: ${resting.error}`] : [])),
      ...standIns(),
    ],
  };
}

function imageNoteOf(pool: Pool, { abilities, variant }: ReadyImage, config: Config): Partial<PoolStatus> {
  if (abilities === undefined) return {};
  const imageNote = lackingNote({ name: pool.image, variant, abilities }, neededAbilities(config));
  return imageNote ? { imageNote } : {};
}

function tokenNoteOf(found: TokenProblem | undefined): Pick<PoolStatus, "tokenNote"> {
  return found ? { tokenNote: { problem: found.problem, hint: found.hint ?? null } } : {};
}

/** Of hosts that have told what they have. */
function roomOf(
  pool: Pool,
  hosts: ReturnType<Components["scheduler"]["status"]>["hosts"],
): PoolStatus["room"] {
  const known = hosts.flatMap(({ capacity, ...host }) => (capacity ? [{ ...host, capacity }] : []));
  const { machines, byDisk, note } = poolCapacity(pool, known);
  return { machines, byDisk: byDisk ?? null, note: note ?? null };
}

/** What the store cannot know of an unfinished job: what is in its way just now. */
export async function explainWait(
  { store, scheduler }: Pick<Components, "store" | "scheduler">,
  jobId: number,
): Promise<readonly string[]> {
  const job = await store.job(jobId);
  return job ? blockersOf(job, scheduler.status(), systemClock.now()) : [];
}

/** `/v1/webhook` and what else people may ask of jobs by tag; undefined when none are served. */
export function webhookPortsOf(
  { claimer, tagged }: Pick<Components, "claimer" | "tagged">,
  config: () => Config,
  door: PublicServer | undefined,
): WebhookPorts | undefined {
  const first = config().webhook;
  if (!first || !tagged) return undefined;
  return createWebhookPorts({
    scope: namedScopeOf(first),
    webhook: () => config().webhook ?? first,
    desk: tagged.desk,
    watcher: tagged.watcher,
    keeper: tagged.keeper,
    unservable: tagged.unservable,
    hookHealth: tagged.hookHealth,
    token: () => tagged.tokenCheck.status(),
    budget: () => tagged.rest.budget,
    refused: () => door?.counts().refused ?? {},
    claiming: (pool) => claimer.status().find((each) => each.pool === pool)?.reason,
  });
}

/** What `/readyz` says. */
export function readiness({
  scheduler,
  claimer,
  tagged,
  reach,
  pools: currentPools,
}: Pick<Components, "scheduler" | "claimer" | "tagged" | "reach" | "pools">): Readiness {
  // Pools of jobs by tag come and go with their runners; whether they can be served is a matter of what they boot.
  const known = currentPools();
  const isLasting = ({ pool }: { readonly pool: string }) => known.get(pool)?.origin.kind !== "tags";
  const outage = describeOutage(reach.outage(), systemClock.now());
  const parts = {
    mode: scheduler.mode(),
    pools: scheduler.poolHealth().filter(isLasting),
    claiming: claimer.status().filter(isLasting),
    outage,
  };
  if (!tagged) return readinessOf({ ...parts, problems: [] });
  const { canFind, problems } = tagged.watcher.status();
  const ofToken = tagged.tokenCheck.status()?.problems ?? [];
  return readinessOf({ ...parts, canFindTagged: canFind, problems: [...problems, ...ofToken] });
}
