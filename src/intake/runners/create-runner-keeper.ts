/** One loop looks at the needs, at our rows and now and then at GitLab's list, and does one small step for each. */
import { hostname as systemHostname } from "node:os";
import pLimit from "p-limit";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import { SECOND_MS } from "../../base/units.ts";
import type { GitLabRest, Scope } from "../../gitlab/rest-api.ts";
import type { RunnerApi, RunnerInfo } from "../../gitlab/runner-api.ts";
import type { Pool } from "../../lifecycle/pool.ts";
import { type Route, routeJob, type TagRules } from "../../lifecycle/routing.ts";
import type { ManagedRunner } from "../../store/managed-runner.ts";
import type { Store } from "../../store/store.ts";
import type { WebhookConfig } from "../config.ts";
import type { Demand } from "../demand.ts";
import { RunnerError } from "../errors.ts";
import type { RunnerKeeper } from "../runner-keeper.ts";
import { createWakeLoop } from "../wake-loop.ts";
import { createRetries } from "./retries.ts";
import { createRunnerBook, type RunnerBook } from "./runner-book.ts";
import { createRunnerCare } from "./runner-care.ts";
import { createRunnerMaking, type RunnerMaking } from "./runner-making.ts";
import { type Need, tagsKey } from "./runner-needs.ts";

/** Longest time between two looks at what nothing announces. */
const TICK_MS = 15 * SECOND_MS;
const SWEEP = "sweep";

export interface RunnerKeeperOptions {
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
  readonly hostname?: string;
  readonly newKey: () => string;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
}

export function createRunnerKeeper(options: RunnerKeeperOptions): RunnerKeeper {
  const { clock, log, store } = options;
  const book = createRunnerBook({ ...options, perJob: () => options.config().perJob });
  const making = createRunnerMaking({ ...options, book, hostname: options.hostname ?? systemHostname() });
  const care = createRunnerCare({ ...options, book });
  const retries = createRetries(clock, options.random);
  const loop = createWakeLoop(clock, look);
  /** The loop and the command line never change runners at the same time. */
  const inTurn = pLimit(1);
  let isEnding = false;
  const forget = book.onNews(loop.wake);

  /** Does one piece of work unless it rests; what goes wrong is remembered and tried again. */
  async function attempt(work: string, doIt: () => Promise<unknown>): Promise<void> {
    if (isEnding || clock.now() < retries.dueAt(work)) return;
    try {
      await doIt();
      retries.done(work);
    } catch (error) {
      const isNew = retries.failed(work, error);
      if (isNew) log.warn({ work, problem: retries.problem(work) }, "work on runners failed");
    }
  }

  async function look(): Promise<number> {
    await inTurn(async () => {
      await attempt("reading the store", book.refresh);
      if (clock.now() >= making.sweepDueAt()) await attempt(SWEEP, making.sweep);
      for (const need of book.needs().values()) await serve(need);
      await tend();
      await attempt("reading the store", book.refresh);
    });
    return clock.now() + TICK_MS;
  }

  async function serve({ key, route, jobIds }: Need): Promise<void> {
    const { perJob } = options.config();
    for (const jobId of missing(book, key, perJob ? jobIds : [null])) {
      await attempt(`making a runner for ${key}`, () => makeWithin(route, jobId));
    }
  }

  async function makeWithin(route: Route, jobId: number | null): Promise<ManagedRunner> {
    const { most } = options.config();
    if (book.rows().length < most) return await making.make(route, jobId);
    const spare = leastUsed(book);
    if (spare) await store.retireRunner(spare.key, "another set of tags needs its place");
    throw new RunnerError(
      "runner_limit",
      `there are ${most} runners already, as many as webhook.runners.most allows`,
      {
        hint: spare ? "one that no job asks for is making room" : "raise it, if GitLab's plan allows more",
      },
    );
  }

  async function tend(): Promise<void> {
    for (const row of book.rows()) {
      const { key, state } = row;
      if (state === "active") {
        await attempt(`sorting ${key}`, () => care.sort(row));
        if (care.isVerifyDue(row)) await attempt(`verifying ${key}`, () => care.verify(row));
      }
    }
    await attempt("reading the store", book.refresh);
    for (const row of book.rows()) await removeIfRetiring(row);
  }

  async function removeIfRetiring(row: ManagedRunner): Promise<void> {
    if (row.state !== "retiring" || !care.isRemovable(row)) return;
    await attempt(`deleting ${row.key}`, () => care.remove(row));
  }

  const people = peopleCalls({
    options,
    book,
    making,
    inTurn: (work) => inTurn(work),
    wake: loop.wake,
  });
  return {
    load: book.refresh,
    start: loop.start,
    async stop() {
      isEnding = true;
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
      if (!row) return;
      void inTurn(() => attempt(`verifying ${row.key}`, () => care.verify(row))).then(loop.wake);
    },
    problem: (tags) =>
      retries.problem(`making a runner for ${tagsKey(tags)}`) ?? retries.problem("reading the store"),
    status: () => store.runners(),
    ...people,
  };
}

/** The jobs, or the one `null` for all of them, that have no runner yet. */
function missing(
  book: RunnerBook,
  key: string,
  wanted: readonly (number | null)[],
): readonly (number | null)[] {
  const free = book
    .rows()
    .filter(
      ({ state, tags, pool, jobId }) =>
        state === "active" &&
        tagsKey(tags) === key &&
        !book.isUsed(pool) &&
        (jobId === null) === (wanted[0] === null),
    );
  return wanted.slice(free.length);
}

/** The runner that nobody asks for and that was used longest ago. */
function leastUsed(book: RunnerBook): ManagedRunner | undefined {
  return book
    .rows()
    .filter(
      ({ state, tags, pool }) =>
        state === "active" && !book.needs().has(tagsKey(tags)) && book.unfinished(pool) === 0,
    )
    .toSorted((a, b) => a.usedAt - b.usedAt)[0];
}

interface PeopleParts {
  readonly options: RunnerKeeperOptions;
  readonly book: RunnerBook;
  readonly making: RunnerMaking;
  readonly inTurn: <T>(work: () => Promise<T>) => Promise<T>;
  readonly wake: () => void;
}

/** What people ask for. Errors are theirs to read. */
function peopleCalls({
  options,
  book,
  making,
  inTurn,
  wake,
}: PeopleParts): Pick<RunnerKeeper, "create" | "retire" | "prune"> {
  const { store, rules, config } = options;
  return {
    create: (tags) =>
      inTurn(async () => {
        const routing = routeJob(tags, rules());
        if (routing.kind !== "route")
          throw noMachine(tags, routing.kind === "refused" ? routing.reason : undefined);
        if (config().perJob)
          throw new RunnerError(
            "runner_per_job",
            "runners are made for single jobs here (webhook.runners.perJob)",
          );
        await book.refresh();
        const key = tagsKey(routing.route.tags);
        const known = book.rows().find((row) => row.state === "active" && tagsKey(row.tags) === key);
        return known ?? (await making.make(routing.route, null));
      }),
    retire: (keyOrId) =>
      inTurn(async () => {
        await book.refresh();
        const found = book
          .rows()
          .find(({ key, gitlabId }) => key === keyOrId || String(gitlabId) === keyOrId);
        if (!found)
          throw new RunnerError("runner_unknown", `there is no runner ${keyOrId} of this FireRunner`);
        await store.retireRunner(found.key, "somebody asked for it");
        await book.refresh();
        wake();
        return book.rows().find(({ key }) => key === found.key) ?? found;
      }),
    prune: () =>
      inTurn(async () => {
        await book.refresh();
        const idle = book
          .rows()
          .filter(
            ({ state, tags, pool }) =>
              state === "active" && !book.needs().has(tagsKey(tags)) && book.unfinished(pool) === 0,
          );
        for (const { key } of idle) await store.retireRunner(key, "pruned: no job asks for it");
        const strays = await making.sweep();
        wake();
        return [
          `${idle.length} unused ${idle.length === 1 ? "runner is" : "runners are"} being deleted`,
          ...(strays > 0 ? [`${strays} of ours that nothing here knew were deleted in GitLab`] : []),
        ];
      }),
  };
}

function noMachine(tags: readonly string[], reason: string | undefined): RunnerError {
  const why = reason ?? "none of them names a machine";
  return new RunnerError("runner_tags", `no machine can be had for ${tags.join(", ")}: ${why}`);
}
