/** The servers: one for the command line of this computer; for the network one for GitLab, one for whoever draws metrics, and the API. */

import { systemClock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { Config } from "../config/load.ts";
import { hostKey } from "../domain/placement.ts";
import { type ApiServer, openApiServer } from "../server/api/api-server.ts";
import { openControlServer } from "../server/control/control-server.ts";
import type { MetricsServer } from "../server/metrics/metrics-server.ts";
import { openPublicServer, type PublicServer } from "../server/public/public-server.ts";
import { createEventFeed } from "../server/routes/event-routes.ts";
import type { ControlPorts, RouteDeps } from "../server/routes/ports.ts";
import type { Store } from "../store/store.ts";
import type { Metrics } from "../telemetry/metrics/metrics.ts";
import { blockersOf } from "../views/blockers.ts";
import type { DaemonReads } from "../views/ports.ts";
import { readReadiness } from "../views/readiness.ts";
import { describeDaemon } from "../views/status.ts";
import { createViews } from "../views/views.ts";
import type { Fleet } from "../vm/driver.ts";
import type { Cleanup } from "./cleanups.ts";
import type { Components } from "./compose.ts";
import { createHostCommands } from "./host-commands.ts";
import { createHostTrials } from "./host-trials.ts";
import { createJobRetry } from "./job-retry.ts";
import { serveMetrics } from "./metrics.ts";
import { type About, daemonReads, webhookPorts } from "./reads.ts";

export interface ServersOptions {
  /** The configuration in force. */
  readonly config: () => Config;
  readonly about: About;
  readonly reload: () => Promise<readonly string[]>;
  /** Undefined where the configuration wants none. */
  readonly metrics?: Metrics | undefined;
  readonly log: Log;
}

/** Those to the network; undefined is one that the configuration does not want. */
interface NetworkServers {
  readonly publicServer: PublicServer | undefined;
  readonly metricsServer: MetricsServer | undefined;
  readonly apiServer: ApiServer | undefined;
}

/** Opens all of them, or none. */
export async function openServers(
  components: Components,
  options: ServersOptions,
  cleanups: Cleanup[],
): Promise<NetworkServers> {
  const { config, metrics, log } = options;
  const reads = daemonReads(components, config, options.about);
  const publicServer = await openNetworkServer(components, options, reads);
  if (publicServer) cleanups.push(() => publicServer.close());
  const metricsServer =
    metrics && (await serveMetrics({ metrics, components, config, reads, publicServer, log }));
  if (metricsServer) cleanups.push(() => metricsServer.close());
  const asked = routeDepsOf(components, options, reads, publicServer);
  const { stateDirectory, version } = reads.facts();
  const control = await openControlServer({ ...asked, stateDirectory, clock: systemClock, log });
  cleanups.push(() => control.close());
  const apiServer =
    config().api.listen.length === 0
      ? undefined
      : await openApiServer({ ...asked, config: config().api, version, clock: systemClock, log });
  if (apiServer) cleanups.push(() => apiServer.close());
  return { publicServer, metricsServer, apiServer };
}

async function openNetworkServer(
  components: Components,
  { config, log }: ServersOptions,
  reads: DaemonReads,
): Promise<PublicServer | undefined> {
  const { http } = config();
  if (http.listen.length === 0) return undefined;
  return await openPublicServer({
    config: http,
    handler: components.tagged?.receiver,
    readiness: () => readReadiness(reads),
    clock: systemClock,
    log: log.child({ component: "server" }),
  });
}

/** What may be asked of this program, by the control socket and by the API. */
function routeDepsOf(
  components: Components,
  options: ServersOptions,
  reads: DaemonReads,
  publicServer: PublicServer | undefined,
): RouteDeps {
  const { config, reload, log } = options;
  const webhook = webhookPorts(components, config, publicServer);
  const ports: ControlPorts = {
    ...steeringOf(components),
    hosts: {
      ...createHostCommands({
        fleet: components.fleet,
        store: components.store,
        scheduler: components.scheduler,
        isLeaving: (key) => components.hostRegistry.isLeaving(key),
        onCapacity: () => components.claimer.wake(),
      }),
      ...createHostTrials({ config, store: components.store, trials: components.relay.trials, log }),
    },
    status: async () => ({ ...describeDaemon(reads), caches: [...(await components.caches.uses())] }),
    reload,
    retryJob: createJobRetry({ store: components.store, rest: components.tagged?.rest }),
    events: createEventFeed(components.store.onEvent),
    async noteChange({ name: who, role }, change) {
      await components.store.note("operator:acted", {}, { who, role, change });
    },
    clock: systemClock,
    publicServer: publicServer && {
      addresses: () => publicServer.addresses,
      readiness: () => readReadiness(reads),
    },
    webhook,
  };
  const views = createViews({
    store: components.store,
    now: systemClock.now,
    explain: (job) => blockersOf(job, components.scheduler.status(), systemClock.now()),
    ...(webhook ? { explainPending: webhook.explainPending } : {}),
  });
  return { views, ports };
}

function steeringOf({
  store,
  scheduler,
  claimer,
  fleet,
  relay,
}: Components): Pick<ControlPorts, "console" | "followConsole" | "jobLogs" | "drain" | "resume"> {
  return {
    jobLogs: relay.logs,
    console: async (id, bytes) => (await driverOf(store, fleet, id))?.console(id, bytes) ?? "",
    followConsole: (id, signal) => followConsole(store, fleet, id, signal),
    drain: () => scheduler.drain(),
    resume() {
      scheduler.resume();
      claimer.wake();
    },
  };
}

async function driverOf(store: Store, fleet: Fleet, machineId: string) {
  const machine = await store.machine(machineId);
  return machine && fleet.hosts().get(hostKey(machine));
}

async function* followConsole(
  store: Store,
  fleet: Fleet,
  machineId: string,
  signal: AbortSignal,
): AsyncIterable<string> {
  const driver = await driverOf(store, fleet, machineId);
  if (driver) yield* driver.followConsole(machineId, signal);
}
