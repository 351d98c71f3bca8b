/** Trials of hosts, within the FireRunner that runs and without one. */
import { systemClock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { Config } from "../config/load.ts";
import { openImages } from "../image/open-images.ts";
import { hostOf, trialEndpoint } from "../operations/host-trial/trial-order.ts";
import { registryAsker } from "../registry/holding.ts";
import type { RelayTrials } from "../relay/relay.ts";
import { HttpError } from "../server/errors.ts";
import { acquireStateLock } from "../store/installation-key.ts";
import type { Store } from "../store/store.ts";
import type { TrialOrder, TrialStep } from "../views/trial-api.ts";
import { type Cleanup, cleanUp } from "./cleanups.ts";
import { openCore } from "./core.ts";
import { namespaceOf } from "./hosts.ts";

export interface HostTrials {
  /** Throws `bad_request` at once while another trial runs: each begins by removing what an earlier one left. */
  tryHost(order: TrialOrder, signal: AbortSignal): AsyncIterable<TrialStep>;
}

export interface HostTrialsDeps {
  readonly config: () => Config;
  readonly store: Pick<Store, "installationId">;
  /** Where these are not possible, guests are not waited for. */
  readonly trials: RelayTrials;
  readonly log: Log;
}

export function createHostTrials(deps: HostTrialsDeps): HostTrials {
  let underWay: string | undefined;

  function refuseSecond(): void {
    if (underWay === undefined) return;
    throw new HttpError("conflict", `another trial runs just now, of the host ${underWay}`, {
      hint: "wait for its end",
    });
  }

  async function* run(order: TrialOrder, signal: AbortSignal): AsyncGenerator<TrialStep> {
    refuseSecond();
    underWay = order.host.name;
    try {
      const { tryHost } = await import("../operations/host-trial/host-trial.ts");
      yield* tryHost(await optionsFor(deps, order), signal);
    } finally {
      underWay = undefined;
    }
  }

  return {
    tryHost(order, signal) {
      refuseSecond();
      return run(order, signal);
    },
  };
}

async function optionsFor({ config, store, trials, log }: HostTrialsDeps, order: TrialOrder) {
  const { vm, scheduler, proxy } = config();
  const images = openImages(config);
  return {
    host: hostOf(order),
    namespace: await namespaceOf(config(), store.installationId),
    settings: vm.flintlock,
    image: { name: order.image, resolve: () => images.resolve(order.image) },
    askRegistry: registryAsker({ proxies: proxy }),
    endpoint: trialEndpoint(trials),
    bootDeadlineMs: scheduler.bootDeadline,
    clock: systemClock,
    log: log.child({ component: "trial" }),
  };
}

/**
 * A trial without a FireRunner that runs: this process takes its place for so long, with its state directory and its relay. Throws
 * StoreError when one runs after all.
 */
export async function* tryHostAlone(
  config: Config,
  order: TrialOrder,
  { log, signal, version }: { readonly log: Log; readonly signal: AbortSignal; readonly version: string },
): AsyncGenerator<TrialStep> {
  const cleanups: Cleanup[] = [];
  try {
    const lock = await acquireStateLock(config.state);
    cleanups.push(() => lock.release());
    // No job is claimed, so nothing is asked of GitLab.
    const { store, relay } = await openCore(
      { config: () => config, pools: () => config.pools, log, version, overrides: undefined },
      cleanups,
    );
    const deps = { config: () => config, store, trials: relay.trials, log };
    yield* createHostTrials(deps).tryHost(order, signal);
  } finally {
    await cleanUp(cleanups, log);
  }
}
