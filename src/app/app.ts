/** The program's life: start, reload, stop. What it is made of is in compose.ts. */
import { type Clock, systemClock } from "../base/clock.ts";
import { atMost } from "../base/deadline.ts";
import { describeError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { formatDuration } from "../base/units.ts";
import type { Claimer } from "../claiming/claimer.ts";
import type { Config } from "../config/load.ts";
import { diffConfig, mergeReloadable } from "../config/reload.ts";
import { type Pool, poolCapacity } from "../domain/pool.ts";
import { oneUserProblem } from "../operations/one-user.ts";
import type { ShutdownConfig } from "../scheduler/config.ts";
import type { Scheduler } from "../scheduler/scheduler.ts";
import { acquireStateLock } from "../store/installation-key.ts";
import { capacitiesOf } from "../vm/fleet.ts";
import { type Cleanup, cleanUp } from "./cleanups.ts";
import { type Components, composeApp } from "./compose.ts";
import { metricsOf } from "./metrics.ts";
import { openServers } from "./servers.ts";

export { tryHostAlone } from "./host-trials.ts";

export interface AppOptions {
  readonly config: Config;
  readonly log: Log;
  readonly version: string;
  /** Reads the configuration again, for `reload`. Throws ConfigError. */
  readonly reread: () => Promise<Config>;
}

export interface App {
  /** Takes the state directory, adopts what runs, and begins to claim. Throws with what to do when it cannot. */
  start(): Promise<void>;
  /** Takes over what may change while running. Returns what changed, in sentences. Throws when the new configuration is unusable. */
  reload(): Promise<readonly string[]>;
  /**
   * Stops claiming, lets jobs end as configured, and lets go of everything; machines that still work go on without us.
   * `hurry` aborts the waiting.
   */
  stop(hurry: AbortSignal): Promise<void>;
}

export function createApp(options: AppOptions): App {
  const { log, version } = options;
  const startedAt = systemClock.now();
  let config = options.config;
  let components: Components | undefined;
  let servers: Awaited<ReturnType<typeof openServers>> | undefined;
  /** What was taken, to be given back in reverse order. */
  const cleanups: Cleanup[] = [];

  async function start(): Promise<void> {
    try {
      const lock = await acquireStateLock(config.state);
      cleanups.push(() => lock.release());
      const metrics = await metricsOf(config, log, cleanups);
      components = await composeApp(
        { config: () => config, log, version, overrides: undefined, metrics },
        cleanups,
      );
      servers = await openServers(
        components,
        { config: () => config, about: { version, startedAt }, reload, metrics, log },
        cleanups,
      );
    } catch (error) {
      await cleanUp(cleanups, log);
      throw error;
    }
    logNotes(config, log);
    const oneUser = oneUserProblem(config, process.getuid?.() ?? 0);
    if (oneUser) log.warn(oneUser, "machines run as the same user as FireRunner");
    components.scheduler.start();
    components.tagged?.start();
    components.claimer.start();
    components.tokens.verifyNew();
    components.warm.start();
    void logCapacity(components, [...config.pools.values()], log);
  }

  async function reload(): Promise<readonly string[]> {
    const next = await options.reread();
    const { live, restart } = diffConfig(config, next);
    config = mergeReloadable(config, next);
    logNotes(next, log);
    await components?.hostRegistry.apply(config.hosts);
    components?.claimer.reload();
    components?.tokens.verifyNew();
    components?.tagged?.reload();
    components?.warm.wake();
    components?.scheduler.wake("configuration read again");
    await Promise.all([components?.relay.reload(), components?.traces.reload()]);
    const ofServers = [
      ...((await servers?.publicServer?.reload(config.http)) ?? []),
      ...((await servers?.metricsServer?.reload(config.metrics)) ?? []),
      ...((await servers?.apiServer?.reload(config.api)) ?? []),
    ];
    const changes = [...live, ...restart, ...ofServers];
    return changes.length === 0 ? ["nothing has changed"] : changes;
  }

  async function stop(hurry: AbortSignal): Promise<void> {
    if (components) {
      const { claimer, scheduler, tagged } = components;
      const others = async () => await tagged?.stop();
      await stopWork({ claimer, scheduler, others, limits: config.shutdown, clock: systemClock, log }, hurry);
    }
    await cleanUp(cleanups, log);
  }

  return { start, reload, stop };
}

function logNotes({ notes }: Config, log: Log): void {
  for (const note of notes) log.warn(note, "a setting does nothing");
}

/** How many machines there is room for; where it is disk that allows no more, what can be done. */
async function logCapacity(
  { fleet }: Pick<Components, "fleet">,
  pools: readonly Pool[],
  log: Log,
): Promise<void> {
  try {
    const hosts = await capacitiesOf(fleet);
    for (const pool of pools) {
      const { machines, byDisk, note } = poolCapacity(pool, hosts);
      if (note === undefined) log.info({ pool: pool.name, machines, byDisk }, "room for machines");
      else
        log.warn(
          { pool: pool.name, machines, byDisk, problem: note },
          "disk is what allows no more machines",
        );
    }
  } catch (error) {
    log.warn({ problem: describeError(error) }, "how many machines there is room for cannot be told");
  }
}

export interface StoppingDeps {
  readonly claimer: Pick<Claimer, "stop" | "openPolls">;
  readonly scheduler: Pick<Scheduler, "drain" | "shutDown" | "status">;
  /** What else asks GitLab for something. */
  readonly others: () => Promise<unknown> | undefined;
  readonly limits: ShutdownConfig;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * The orderly end: no new jobs, what GitLab may still give is taken, and running jobs have their time. Says what it waits for. `hurry`
 * aborts all waiting: a second signal.
 */
export async function stopWork(deps: StoppingDeps, hurry: AbortSignal): Promise<void> {
  const { claimer, scheduler, others, limits, clock, log } = deps;
  const beganAt = clock.now();
  scheduler.drain();
  const asked = Promise.all([others(), claimer.stop()]);
  for (const sentence of waitsFor(deps)) log.info({}, sentence);
  await atMost(clock, limits.pollLimit, asked, hurry);
  const left = claimer.openPolls();
  // Whoever waits for them for ever is not told of by anybody else.
  asked.catch(() => {});
  if (left > 0)
    log.warn(
      { openRequests: left },
      `${requests(left)} given up before GitLab's answer: a job that it gives to one of them just now is lost, and runs there until GitLab ends it`,
    );
  await scheduler.shutDown(hurry, clock.now() - beganAt);
}

function waitsFor({ claimer, scheduler, limits }: StoppingDeps): string[] {
  const polls = claimer.openPolls();
  const jobs = scheduler.status().unfinishedJobs;
  const then =
    limits.onLimit === "end" ? "are then ended" : "then go on in their machines until the next start";
  return [
    ...(polls === 0
      ? []
      : [
          `waiting for GitLab's answer: ${requests(polls)} open that may still bring a job, for at most ${formatDuration(limits.pollLimit)} (shutdown.pollLimit)`,
        ]),
    ...(jobs === 0
      ? []
      : [
          `waiting for ${jobs} unfinished ${jobs === 1 ? "job" : "jobs"} for at most ${formatDuration(limits.drainLimit)} (shutdown.drainLimit); those left ${then}`,
        ]),
  ];
}

function requests(count: number): string {
  return count === 1 ? "1 request for jobs is" : `${count} requests for jobs are`;
}
