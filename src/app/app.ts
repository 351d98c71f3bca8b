/** The program's life: start, reload, stop. What it is made of stands in app/rooms.ts. */

import { systemClock } from "../base/clock.ts";
import { describeError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import type { Config } from "../config/load.ts";
import { diffConfig, mergeReloadable } from "../config/reload.ts";
import type { Pool } from "../domain/pool.ts";
import { poolCapacity } from "../domain/pool.ts";
import { oneUserProblem } from "../operations/one-user.ts";
import type { PublicServer } from "../server/public/public-server.ts";
import { acquireStateLock } from "../store/state-lock.ts";
import { capacitiesOf } from "../vm/fleet-capacity.ts";
import { type Components, composeApp } from "./compose.ts";
import type { Cleanup } from "./fleet.ts";
import { openServers } from "./servers.ts";
import { stopWork } from "./stopping.ts";

export { newSigningKey, signDelivery } from "../gitlab/webhook-signature.ts";
export { doctorChecks } from "../operations/doctor/doctor-checks.ts";
export { installConfiguredHook } from "../operations/hook-installation/configured-hook.ts";
export { createSetupChecks } from "../operations/setup/setup-checks.ts";
export { createLog } from "../telemetry/log.ts";
export { openOfflineViews } from "../views/views.ts";
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
  /** Takes over what may change while running. Answers what changed, in words. Throws when the new configuration is unusable. */
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
  let rooms: Components | undefined;
  let door: PublicServer | undefined;
  /** What was taken, to be given back in reverse order. */
  const cleanups: Cleanup[] = [];

  async function start(): Promise<void> {
    try {
      const lock = await acquireStateLock(config.state);
      cleanups.push(() => lock.release());
      rooms = await composeApp({ ...options, config: () => config }, cleanups);
      door = await openServers(
        rooms,
        { config: () => config, about: { version, startedAt }, reload, log },
        cleanups,
      );
    } catch (error) {
      await cleanUp(cleanups, log);
      throw error;
    }
    tellNotes(config, log);
    const oneUser = oneUserProblem(config, process.getuid?.() ?? 0);
    if (oneUser) log.warn(oneUser, "machines run as the same user as FireRunner");
    rooms.scheduler.start();
    rooms.tagged?.start();
    rooms.claimer.start();
    rooms.tokens.look();
    void tellRoom(rooms, [...config.pools.values()], log);
  }

  async function reload(): Promise<readonly string[]> {
    const next = await options.reread();
    const { live, restart } = diffConfig(config, next);
    config = mergeReloadable(config, next);
    tellNotes(next, log);
    await rooms?.hostKeeper?.apply(config.hosts);
    rooms?.claimer.reload();
    rooms?.tokens.look();
    rooms?.tagged?.reload();
    rooms?.scheduler.wake("configuration read again");
    await rooms?.relay.reload();
    const ofDoor = (await door?.reload(config.http)) ?? [];
    const changes = [...live, ...restart, ...ofDoor];
    return changes.length === 0 ? ["nothing has changed"] : changes;
  }

  async function stop(hurry: AbortSignal): Promise<void> {
    if (rooms) {
      const { claimer, scheduler, tagged } = rooms;
      const others = async () => await tagged?.stop();
      await stopWork({ claimer, scheduler, others, limits: config.shutdown, clock: systemClock, log }, hurry);
    }
    await cleanUp(cleanups, log);
  }

  return { start, reload, stop };
}

function tellNotes({ notes }: Config, log: Log): void {
  for (const note of notes) log.warn(note, "a setting does nothing");
}

/** How many machines there is room for; where it is disk that allows no more, what can be done. */
async function tellRoom(
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

/** Gives back in reverse order. One that fails does not keep the others. */
async function cleanUp(cleanups: Cleanup[], log: Log): Promise<void> {
  for (const cleanup of cleanups.splice(0).reverse()) {
    try {
      await cleanup();
    } catch (error) {
      log.warn({ err: error }, "letting go failed");
    }
  }
}
