/**
 * How the runners are made and removed that jobs by tag need in GitLab, told from here.
 *
 * GitLab gives a job to a runner that has its tags, so each set of tags in the demand needs a runner with exactly those. One loop, woken
 * by changes of demand and jobs, compares the needs with the rows in the store (`runner-index.ts`, which also gives the pool that each
 * runner stands for, see `runner-pools.ts`) and takes each row one step further: make what is missing (`runner-creator.ts`: row first,
 * then GitLab, then the token, so that a lost answer is found again by the mark of `runner-mark.ts`), verify what is due and retire
 * and delete what nobody needs (`runner-upkeep.ts`). Work that fails is tried again later (`retries.ts`); nothing ends the loop.
 *
 * The command line does the same by hand (`runner-commands.ts`), never at the same time as the loop. `unservable.ts` makes a runner for
 * one job that can only be failed.
 */
import pLimit from "p-limit";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { SECOND_MS } from "../base/units.ts";
import { createWakeLoop } from "../base/wake-loop.ts";
import type { WebhookConfig } from "../discovery/config.ts";
import type { Demand } from "../discovery/pending-job.ts";
import type { Pool } from "../domain/pool.ts";
import type { Route, TagRules } from "../domain/routing.ts";
import type { GitLabRest, Scope } from "../gitlab/rest-api.ts";
import type { RunnerApi, RunnerInfo } from "../gitlab/runner-api.ts";
import type { ManagedRunner } from "../store/jobs-by-tag.ts";
import type { Store } from "../store/store.ts";
import { createRetries, type Retries } from "./retries.ts";
import { createRunnerCommands, type RunnerCommands } from "./runner-commands.ts";
import {
  createBelowLimit,
  createRunnerCreator,
  createWithinLimit,
  isOwnLimit,
  type LimitDeps,
  type RunnerCreator,
} from "./runner-creator.ts";
import { activeRunners, createRunnerIndex, type RunnerIndex } from "./runner-index.ts";
import { type Need, tagsKey } from "./runner-pools.ts";
import {
  createRunnerSettings,
  createRunnerUpkeep,
  createRunnerVerifier,
  type RunnerUpkeep,
  type RunnerVerifier,
} from "./runner-upkeep.ts";

/** Longest time until what nothing announces is checked. */
const TICK_MS = 15 * SECOND_MS;
/** Of so many runners GitLab hears in one tick: jobs that need a new runner are not to wait for hundreds of others. */
const VERIFIES_PER_TICK = 10;
const READING = "reading the store";
const noSize = { cpus: 1, memoryMib: 512 };

/**
 * Makes the runners that the waiting jobs need, keeps them online, and deletes them: the pools of jobs by tag. What it cannot do
 * now it explains and tries again later; nothing it meets ends it.
 */
export interface RunnerProvisioner extends RunnerCommands {
  /**
   * Reads the store, so that `pools` is complete: jobs that were claimed before a restart are given up if their pool is not known.
   * Throws StoreError.
   */
  load(): Promise<void>;
  start(): void;
  /** Nothing new is asked of GitLab; resolves when what was asked is answered and stored. */
  stop(): Promise<void>;
  wake(): void;
  /** One pool for each runner that is active or retiring: jobs of both may be unfinished. */
  pools(): ReadonlyMap<string, Pool>;
  onPoolsChange(listener: () => void): () => void;
  /** Jobs that may be claimed through a pool now: 0 for a retiring runner. Undefined for a pool that is not of its creator. */
  wanted(pool: string): number | undefined;
  /** The pool in whose machine a claimed job belongs: its own tags' where GitLab gave it to a runner with more tags. */
  assign(jobId: number, pool: Pool): Pool;
  /** GitLab refused this pool's token: look whether its runner was deleted or its token changed. */
  requestRecheck(pool: string): void;
  /** Why jobs with these tags have no runner; undefined when nothing is in the way. */
  problem(tags: readonly string[]): string | undefined;
  status(): Promise<readonly ManagedRunner[]>;
  /**
   * Makes a runner with the job's tags for that job alone, which no machine can be had for; resolves when it is active. Its row, too,
   * is taken out of use and deleted as soon as nothing is polled for it. Throws what is in the way: also where only one more runner
   * may be made, which is kept for jobs that can be served.
   */
  createForUnservable(job: { readonly id: number; readonly tags: readonly string[] }): Promise<ManagedRunner>;
}

export interface RunnerProvisionerOptions {
  readonly demand: Demand;
  readonly store: Store;
  readonly rest: GitLabRest;
  readonly api: RunnerApi;
  readonly scope: () => Promise<Scope>;
  readonly rules: () => TagRules;
  readonly runnerInfo: (pool: Pool) => RunnerInfo | undefined;
  readonly isPolled: (runner: Pick<ManagedRunner, "pool" | "jobId">) => boolean;
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
  const index = createRunnerIndex({ ...options, perJob: () => options.config().perJob });
  const settings = createRunnerSettings();
  const creator = createRunnerCreator({ ...options, index, settings });
  const upkeep = createRunnerUpkeep({ ...options, index });
  const verifier = createRunnerVerifier({ ...options, index, settings });
  const retries = createRetries({ ...options, isFree: isOwnLimit });
  const { store, config } = options;
  const state: ProvisionerState = { options, store, config, index, creator, upkeep, verifier, retries };
  /** The loop and the command line never change runners at the same time. */
  const exclusively = pLimit(1);
  const loop = createWakeLoop(clock, async () => {
    const waitMs = await exclusively(() => tick(state));
    return clock.now() + waitMs;
  });
  const unsubscribe = index.onJobsChange(loop.wake);

  return {
    load: index.refresh,
    start: loop.start,
    async stop() {
      retries.end();
      unsubscribe();
      await loop.stop();
      await exclusively(async () => {});
      index.close();
    },
    wake() {
      retries.forgetFailures();
      loop.wake();
    },
    pools: index.pools,
    onPoolsChange: index.onPoolsChange,
    wanted: index.wanted,
    assign: index.assign,
    requestRecheck(pool) {
      const row = index.rows().find((each) => each.pool === pool && each.state === "active");
      if (row) void exclusively(() => verify(state, row)).then(loop.wake);
    },
    problem: (tags) => retries.problem(creationFor(tagsKey(tags))) ?? retries.problem(READING),
    status: () => options.store.runners(),
    createForUnservable: ({ id, tags }) =>
      exclusively(() => createBelowLimit(state, anyRoute(options, tags), id)),
    ...createRunnerCommands({
      ...options,
      ...state,
      exclusively: (work) => exclusively(work),
      wake: loop.wake,
    }),
  };
}

interface ProvisionerState extends LimitDeps {
  readonly options: RunnerProvisionerOptions;
  readonly index: RunnerIndex;
  readonly creator: RunnerCreator;
  readonly upkeep: RunnerUpkeep;
  readonly verifier: RunnerVerifier;
  readonly retries: Retries;
}

/** Tags that name no machine that can be had have no size: one is needed for the row, and nothing is made of it. */
function anyRoute({ rules }: RunnerProvisionerOptions, tags: readonly string[]): Route {
  const { kind } = rules();
  return { tags: tags.toSorted(), kind, size: { ...noSize, diskMib: kind.diskMib } };
}

function creationFor(key: string): string {
  return `creator a runner for ${key}`;
}

/** Each row is brought one step further; what one step has changed, the rows after it see in the next. Returns how long to wait (ms). */
async function tick(state: ProvisionerState): Promise<number> {
  const { options, index, creator, upkeep, retries } = state;
  await retries.attempt(READING, index.refresh);
  if (options.clock.now() >= creator.sweepDueAt()) await retries.attempt("sweep", creator.sweep);
  for (const need of index.needs().values()) await serve(state, need);
  const active = index.rows().filter(({ state }) => state === "active");
  for (const row of active) await retries.attempt(`sorting ${row.key}`, () => upkeep.updateUse(row));
  const waitMs = await verifySome(state, state.verifier.verifyDue(active));
  await retries.attempt(READING, index.refresh);
  const before = index.rows().length;
  for (const row of index.rows().filter(({ state }) => state === "retiring")) {
    if (upkeep.isRemovable(row)) await retries.attempt(`deleting ${row.key}`, () => upkeep.remove(row));
  }
  await retries.attempt(READING, index.refresh);
  return index.rows().length < before && isSomebodyKeptOut(state) ? 0 : waitMs;
}

/** A runner waits to be made until another is gone. */
function isSomebodyKeptOut({ index, retries }: ProvisionerState): boolean {
  return [...index.needs().keys()].some((key) => isOwnLimit(retries.error(creationFor(key))));
}

/** Returns how long to wait before the others. After a failure they wait: GitLab may be out of reach for them, too. */
async function verifySome(state: ProvisionerState, due: readonly ManagedRunner[]): Promise<number> {
  let verified = 0;
  for (const row of due) {
    if (verified === VERIFIES_PER_TICK) return 0;
    const outcome = await verify(state, row);
    if (outcome === "failed") return TICK_MS;
    if (outcome === "done") verified++;
  }
  return TICK_MS;
}

function verify({ verifier, retries }: ProvisionerState, row: ManagedRunner): ReturnType<Retries["attempt"]> {
  return retries.attempt(`verifier ${row.key}`, () => verifier.verify(row));
}

async function serve(state: ProvisionerState, { key, route, jobIds }: Need): Promise<void> {
  const { index, options, retries } = state;
  for (const jobId of missing(index, key, options.config().perJob ? jobIds : [null])) {
    await retries.attempt(creationFor(key), () => createWithinLimit(state, route, jobId));
  }
}

/** The jobs, or the one `null` for all of them, that have no runner yet. */
function missing(
  index: RunnerIndex,
  key: string,
  wanted: readonly (number | null)[],
): readonly (number | null)[] {
  const isForAll = wanted[0] === null;
  const free = activeRunners(index, key).filter(
    ({ pool, jobId }) => !index.isUsed(pool) && (jobId === null) === isForAll,
  );
  return wanted.slice(free.length);
}
