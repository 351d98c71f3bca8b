import type { Clock } from "../base/clock.ts";
import { atMost } from "../base/deadline.ts";
import { describeError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import type { ProxyRoutes } from "../base/proxy/routes.ts";
import type { GuestEnd } from "../domain/events.ts";
import type { Pool } from "../domain/pool.ts";
import type { GitLabHttp } from "../gitlab/http.ts";
import type { RunnerApi } from "../gitlab/runner-api.ts";
import type { Store } from "../store/store.ts";
import { createAdmission } from "./admission.ts";
import { type Audit, createAudit } from "./audit.ts";
import { tellCanceling } from "./await-cancel.ts";
import { createChunkedWork } from "./chunked-work.ts";
import type { RelaySettings } from "./config.ts";
import { createDispatcher } from "./dispatcher.ts";
import { type AddressGuard, createAddressGuard } from "./egress-addresses.ts";
import { createDialer, type Dialer } from "./egress-dialer.ts";
import { createEgressProxy } from "./egress-proxy.ts";
import type { Resolve } from "./egress-resolve.ts";
import { createEndRecorder } from "./end-recorder.ts";
import { createGuest, type Guest } from "./guest.ts";
import { createGuestEndpoints, type GuestEndpoints } from "./guest-endpoints.ts";
import { createGuestServer } from "./guest-server.ts";
import { createHandlers } from "./handlers.ts";
import {
  createRelayAddress,
  type RelayAddress,
  type RelayLink,
  type Trials,
} from "./network/relay-address.ts";

/** Reports on their way to GitLab are waited for no longer than this; the guest repeats them. */
const STOP_LIMIT_MS = 5_000;
/** Node reads all that has come in one piece before the connection ends: a thousand requests, for which the machine waits with its next ones. */
const ARRIVALS_PER_SENT_AHEAD = 100;

export interface RelayOptions {
  readonly store: Store;
  readonly http: GitLabHttp;
  readonly api: Pick<RunnerApi, "appendTrace">;
  /** The pools as configured now. */
  readonly pools: () => ReadonlyMap<string, Pool>;
  /** What a machine is told at its boot, as text; undefined for a machine that is not to run. */
  readonly bootData: (machineId: string) => Promise<string | undefined>;
  readonly clock: Clock;
  readonly log: Log;
  readonly config: RelaySettings;
  /** Where the authority for machines on other hosts is kept, if any come. */
  readonly directory?: string;
  /** Which addresses guests may not reach. The default refuses everything that is not public. */
  readonly guard?: AddressGuard;
  /** Through which proxies guests' other hosts are reached; by default through none. */
  readonly proxies?: ProxyRoutes;
  /** Replaces the resolution of names that guests ask for. */
  readonly resolve?: Resolve;
}

/** The GitLab-shaped service for guests. A `GuestDoor` of the scheduler. */
export interface Relay {
  /** Begins to listen for machines on other hosts, where that is configured. Throws RelayError. */
  start(): Promise<void>;
  open(machineId: string, socketPath: string | undefined): Promise<void>;
  close(machineId: string): Promise<void>;
  link(machineId: string): Promise<RelayLink>;
  readonly trials: RelayTrials;
  endOf(machineId: string): GuestEnd | undefined;
  lastHeardAt(machineId: string): number | undefined;
  lastStandingAt(machineId: string): number | undefined;
  tellCanceling(machineId: string): void;
  /** Looks whether the certificate's files have changed. */
  reload(): Promise<void>;
  /** Closes every door, waits for reports that are on their way to GitLab, and lets go of all connections. */
  stop(): Promise<void>;
}

/** For machines that only try a host out. */
export interface RelayTrials extends Pick<Trials, "arePossible" | "firstWordAt"> {
  /** Opens a door for one and answers its way here; each call makes a new secret. Throws RelayError `relay_no_network`. */
  open(machineId: string): Promise<RelayLink>;
  close(machineId: string): Promise<void>;
}

export function createRelay(options: RelayOptions): Relay {
  const { store, http, clock, log, config } = options;
  const inFlight = new Set<Promise<void>>();
  const audit = createAudit({ store, clock });
  const dialer = dialerOf(options);
  const proxy = createEgressProxy({
    ...{ store, dialer, audit },
    settings: config,
    egressOf: (pool) => options.pools().get(pool)?.egress,
    gitlabOrigin: http.origin,
  });
  const noteEnd = createEndRecorder({ store, log });
  const pieces = createChunkedWork();
  const handle = createHandlers(options, { dialer, audit, noteEnd, pieces, track });
  const admission = createAdmission({ settings: config, machines: () => doors.count() });
  const { onTooMany, onSentAhead } = complaintsTo(audit);
  const reception = createDispatcher({ store, audit, proxy, handle, admission, pieces });
  const server = createGuestServer({
    ...{ settings: config, pieces },
    onRequest: (...request) => track(reception.request(...request)),
    onConnect: (...request) => track(reception.connect(...request)),
    onTooMany,
    onSentAhead,
  });
  const doors = createGuestEndpoints({
    createGuest: (machineId, isRemote) => createGuest({ machineId, isRemote, clock, settings: config, log }),
    ...{ serve: server.serve, onTooMany },
    maxConnections: config.connections,
  });
  const outside = createRelayAddress({
    ...{ store, clock, log, onTooMany, settings: config, directory: options.directory },
    guest: doors.remoteGuest,
    serve: server.serve,
    onAgain: (guest) => track(noteEnd(guest, "restarted")),
  });

  function track(work: Promise<void>): void {
    // One guest's request must never end the process, whatever goes wrong with it.
    const settled = work
      .catch((error: unknown) => log.error({ error: describeError(error) }, "request handler failed"))
      .finally(() => inFlight.delete(settled));
    inFlight.add(settled);
  }

  return {
    start: outside.start,
    async open(machineId, socketPath) {
      if (socketPath === undefined) outside.require(machineId);
      await doors.open(machineId, socketPath);
    },
    link: outside.link,
    trials: trialsOf(outside, doors),
    endOf: (machineId) => doors.guest(machineId)?.end,
    close: doors.close,
    lastHeardAt: (machineId) => doors.guest(machineId)?.lastHeardAt(),
    lastStandingAt: (machineId) => doors.guest(machineId)?.standingAt,
    tellCanceling: (machineId) => tellCanceling(doors.guest(machineId)),
    reload: outside.look,
    async stop() {
      await Promise.all([outside.close(), doors.closeAll()]);
      await atMost(clock, STOP_LIMIT_MS, Promise.allSettled(inFlight));
      await dialer.close();
    },
  };
}

function complaintsTo(audit: Audit) {
  return {
    onTooMany: (guest: Guest) => audit.ruleBroken(guest, "too-many-connections"),
    onSentAhead(guest: Guest) {
      guest.arrivals.spend(ARRIVALS_PER_SENT_AHEAD);
      // A piece of each of its other connections would be read as far before it is known: they end unread.
      for (const socket of guest.sockets) socket.destroy();
      audit.ruleBroken(guest, "too-many-sent-ahead");
    },
  };
}

function dialerOf({ config, guard = createAddressGuard(), http, proxies, resolve }: RelayOptions): Dialer {
  const limits = { guard, connectTimeoutMs: config.connectTimeout };
  return createDialer({ ...limits, proxies, authorities: http.authorities, ...(resolve ? { resolve } : {}) });
}

function trialsOf({ trials }: RelayAddress, doors: GuestEndpoints): RelayTrials {
  const { arePossible, firstWordAt } = trials;
  return {
    arePossible,
    firstWordAt,
    async open(machineId) {
      const link = trials.link(machineId);
      await doors.open(machineId, undefined);
      return link;
    },
    async close(machineId) {
      trials.forget(machineId);
      await doors.close(machineId);
    },
  };
}
