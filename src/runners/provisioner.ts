/** One loop looks at the needs, at our rows and now and then at GitLab's list, and does one small step for each. */
import pLimit from "p-limit";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { SECOND_MS } from "../base/units.ts";
import { createWakeLoop } from "../base/wake-loop.ts";
import type { WebhookConfig } from "../discovery/config.ts";
import type { Demand } from "../discovery/demand.ts";
import type { Pool } from "../domain/pool.ts";
import type { Route, TagRules } from "../domain/routing.ts";
import type { GitLabRest, Scope } from "../gitlab/rest-api.ts";
import type { RunnerApi, RunnerInfo } from "../gitlab/runner-api.ts";
import type { ManagedRunner } from "../store/managed-runner.ts";
import type { Store } from "../store/store.ts";
import type { RunnerProvisioner } from "./ports.ts";
import { createRetries, type Retries } from "./retries.ts";
import { createRunnerCommands } from "./runner-commands.ts";
import { createRunnerCreator, type RunnerCreator } from "./runner-creator.ts";
import { createRunnerIndex, type RunnerIndex } from "./runner-index.ts";
import { createWithinLimit, isOwnLimit, type LimitParts, makeWithinLimit } from "./runner-limit.ts";
import { type Need, tagsKey } from "./runner-needs.ts";
import { activeRunners } from "./runner-selection.ts";
import { createRunnerSettings } from "./runner-settings.ts";
import { createRunnerUpkeep, type RunnerUpkeep } from "./runner-upkeep.ts";
import { createRunnerVerifying, type RunnerVerifying } from "./runner-verifying.ts";

/** Longest time between two looks at what nothing announces. */
const TICK_MS = 15 * SECOND_MS;
/** Of so many runners GitLab hears in one look: jobs that need a new runner are not to wait for hundreds of others. */
const VERIFIES_PER_LOOK = 10;
const READING = "reading the store";
const noSize = { cpus: 1, memoryMib: 512 };

export interface RunnerProvisionerOptions {
  readonly demand: Demand;
  readonly store: Store;
  readonly rest: GitLabRest;
  readonly api: RunnerApi;
  readonly scope: () => Promise<Scope>;
  readonly rules: () => TagRules;
  readonly runnerInfo: (pool: Pool) => RunnerInfo | undefined;
  readonly isPolled: (pool: string) => boolean;
  readonly config: () => WebhookConfig["runners"];
  /** The mark by which this installation knows its runners in GitLab. */
  readonly installation: string;
  /** For people, in the runners' descriptions. */
  readonly hostname: string;
  readonly newKey: () => string;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
}

export function createRunnerProvisioner(options: RunnerProvisionerOptions): RunnerProvisioner {
  const { clock } = options;
  const book = createRunnerIndex({ ...options, perJob: () => options.config().perJob });
  const settings = createRunnerSettings();
  const making = createRunnerCreator({ ...options, book, settings });
  const care = createRunnerUpkeep({ ...options, book });
  const verifying = createRunnerVerifying({ ...options, book, settings });
  const retries = createRetries({ ...options, isFree: isOwnLimit });
  const { store, config } = options;
  const parts: Parts = { options, store, config, book, making, care, verifying, retries };
  /** The loop and the command line never change runners at the same time. */
  const inTurn = pLimit(1);
  const loop = createWakeLoop(clock, async () => {
    const restMs = await inTurn(() => look(parts));
    return clock.now() + restMs;
  });
  const forget = book.onNews(loop.wake);

  return {
    load: book.refresh,
    start: loop.start,
    async stop() {
      retries.end();
      forget();
      await loop.stop();
      await inTurn(async () => {});
      book.close();
    },
    wake() {
      retries.pardon();
      loop.wake();
    },
    pools: book.pools,
    onPoolsChange: book.onPoolsChange,
    wanted: book.wanted,
    assign: book.assign,
    doubt(pool) {
      const row = book.rows().find((each) => each.pool === pool && each.state === "active");
      if (row) void inTurn(() => verify(parts, row)).then(loop.wake);
    },
    problem: (tags) => retries.problem(makingOf(tagsKey(tags))) ?? retries.problem(READING),
    status: () => options.store.runners(),
    createForUnservable: ({ id, tags }) =>
      inTurn(() => createWithinLimit(parts, anyRoute(options, tags), id)),
    ...createRunnerCommands({ ...options, ...parts, inTurn: (work) => inTurn(work), wake: loop.wake }),
  };
}

interface Parts extends LimitParts {
  readonly options: RunnerProvisionerOptions;
  readonly book: RunnerIndex;
  readonly making: RunnerCreator;
  readonly care: RunnerUpkeep;
  readonly verifying: RunnerVerifying;
  readonly retries: Retries;
}

/** Tags that name no machine that can be had have no size: one is needed for the row, and nothing is made of it. */
function anyRoute({ rules }: RunnerProvisionerOptions, tags: readonly string[]): Route {
  const { kind } = rules();
  return { tags: tags.toSorted(), kind, size: { ...noSize, diskMib: kind.diskMib } };
}

function makingOf(key: string): string {
  return `making a runner for ${key}`;
}

/** Each row is brought one step further; what one step has changed, the rows after it see in the next. Answers how long to rest. */
async function look(parts: Parts): Promise<number> {
  const { options, book, making, care, retries } = parts;
  await retries.attempt(READING, book.refresh);
  if (options.clock.now() >= making.sweepDueAt()) await retries.attempt("sweep", making.sweep);
  for (const need of book.needs().values()) await serve(parts, need);
  const active = book.rows().filter(({ state }) => state === "active");
  for (const row of active) await retries.attempt(`sorting ${row.key}`, () => care.sort(row));
  const restMs = await verifySome(parts, parts.verifying.verifyDue(active));
  await retries.attempt(READING, book.refresh);
  const before = book.rows().length;
  for (const row of book.rows().filter(({ state }) => state === "retiring")) {
    if (care.isRemovable(row)) await retries.attempt(`deleting ${row.key}`, () => care.remove(row));
  }
  await retries.attempt(READING, book.refresh);
  return book.rows().length < before && isSomebodyKeptOut(parts) ? 0 : restMs;
}

/** A runner waits to be made until another is gone. */
function isSomebodyKeptOut({ book, retries }: Parts): boolean {
  return [...book.needs().keys()].some((key) => isOwnLimit(retries.error(makingOf(key))));
}

/** Answers how long to rest before the others. After a failure they wait: GitLab may be out of reach for them, too. */
async function verifySome(parts: Parts, due: readonly ManagedRunner[]): Promise<number> {
  let verified = 0;
  for (const row of due) {
    if (verified === VERIFIES_PER_LOOK) return 0;
    const outcome = await verify(parts, row);
    if (outcome === "failed") return TICK_MS;
    if (outcome === "done") verified++;
  }
  return TICK_MS;
}

function verify({ verifying, retries }: Parts, row: ManagedRunner): ReturnType<Retries["attempt"]> {
  return retries.attempt(`verifying ${row.key}`, () => verifying.verify(row));
}

async function serve(parts: Parts, { key, route, jobIds }: Need): Promise<void> {
  const { book, options, retries } = parts;
  for (const jobId of missing(book, key, options.config().perJob ? jobIds : [null])) {
    await retries.attempt(makingOf(key), () => makeWithinLimit(parts, route, jobId));
  }
}

/** The jobs, or the one `null` for all of them, that have no runner yet. */
function missing(
  book: RunnerIndex,
  key: string,
  wanted: readonly (number | null)[],
): readonly (number | null)[] {
  const isForAll = wanted[0] === null;
  const free = activeRunners(book, key).filter(
    ({ pool, jobId }) => !book.isUsed(pool) && (jobId === null) === isForAll,
  );
  return wanted.slice(free.length);
}
