/**
 * The GitLab-shaped HTTP service that guests talk to instead of GitLab: their only way out of the machine. Nothing of theirs is trusted.
 *
 * A guest comes by its machine's unix socket (`gateway/guest-endpoints.ts`) or, on another host, by TLS with a secret of its machine
 * (`remote/remote-listener.ts`). From there on all are served alike: `gateway/guest-server.ts` speaks HTTP, `gateway/admission.ts` bounds
 * what one machine may have under way, `gateway/dispatcher.ts` finds the route (`gateway/routes.ts`) and lets `job/handlers.ts` serve it:
 * `job/job-delivery.ts` hands over the payload, once; `job/trace.ts` and `job/update-job.ts` pass on log and end; `job/artifacts.ts` and
 * `job/git.ts` the rest; `mirror/registry-mirror.ts` gives images that a job pulls itself. Requests to elsewhere go through `egress/egress-proxy.ts`, as the rules in
 * `egress/egress-policy.ts` allow. `job/job-session.ts` is what is known of a machine's job, read from the store.
 */
import { atMost } from "../base/deadline.ts";
import { describeError } from "../base/errors.ts";
import type { GuestEnd } from "../domain/events.ts";
import { createAddressGuard } from "./egress/addresses.ts";
import { createDialer, type Dialer } from "./egress/egress-dialer.ts";
import { createEgressGate } from "./egress/egress-gate.ts";
import { createEgressProxy, targetOf } from "./egress/egress-proxy.ts";
import { createAdmission, createChunkedWork } from "./gateway/admission.ts";
import { type Audit, createAudit } from "./gateway/audit.ts";
import { createDispatcher } from "./gateway/dispatcher.ts";
import { createGuest, type Guest } from "./gateway/guest.ts";
import { createGuestEndpoints, type GuestEndpoints } from "./gateway/guest-endpoints.ts";
import { createGuestServer } from "./gateway/guest-server.ts";
import { createHandlers, type RelayOptions } from "./job/handlers.ts";
import { createJobLogs, type JobLogs } from "./job/job-logs.ts";
import { createEndRecorder } from "./job/job-session.ts";
import { tellCanceling } from "./job/update-job.ts";
import { createMirrorRoutes } from "./mirror/registry-mirror.ts";
import {
  createRelayAddress,
  type RelayAddress,
  type RelayLink,
  type Trials,
} from "./remote/relay-address.ts";

/** Reports on their way to GitLab are waited for no longer than this; the guest repeats them. */
const STOP_LIMIT_MS = 5_000;

/** Node reads all that has come in one piece before the connection ends: a thousand requests, for which the machine waits with its next ones. */
const ARRIVALS_PER_SENT_AHEAD = 100;

/** The GitLab-shaped service for guests. A `GuestEndpoint` of the scheduler. */
export interface Relay {
  /** Begins to listen for machines on other hosts, where that is configured. Throws RelayError. */
  start(): Promise<void>;
  open(machineId: string, socketPath: string | undefined): Promise<void>;
  close(machineId: string): Promise<void>;
  link(machineId: string): Promise<RelayLink>;
  readonly trials: RelayTrials;
  endOf(machineId: string): GuestEnd | undefined;
  lastHeardAt(machineId: string): number | undefined;
  lastStatusAt(machineId: string): number | undefined;
  tellCanceling(machineId: string): void;
  /** What running jobs have written lately. */
  readonly logs: Pick<JobLogs, "tail" | "follow">;
  /** Looks whether the certificate's files have changed. */
  reload(): Promise<void>;
  /** When the certificate ends that machines on other hosts are shown (epoch ms); undefined where none come. */
  certificateEndsAt(): number | undefined;
  /** Machines that may speak to it now, and what it holds of their requests (bytes). */
  load(): { readonly machines: number; readonly heldBytes: number };
  /** Closes every endpoint, waits for reports that are on their way to GitLab, and lets go of all connections. */
  stop(): Promise<void>;
}

/** For machines that only try a host out. */
export interface RelayTrials extends Pick<Trials, "arePossible" | "firstWordAt"> {
  /** Opens an endpoint for one and returns its way here; each call makes a new secret. Throws RelayError `relay_no_network`. */
  open(machineId: string): Promise<RelayLink>;
  close(machineId: string): Promise<void>;
}

export function createRelay(options: RelayOptions): Relay {
  const { store, http, clock, log, config } = options;
  const inFlight = new Set<Promise<void>>();
  const audit = createAudit({ store, clock });
  const dialer = dialerOf(options);
  const egressOf = (pool: string) => options.pools().get(pool)?.egress;
  const gate = createEgressGate({ store, audit, egressOf, gitlab: targetOf(new URL(http.origin)) });
  const proxy = createEgressProxy({ gate, dialer, audit, settings: config, gitlabOrigin: http.origin });
  const recordEnd = createEndRecorder({ store, log });
  const { pools, pulledImages = async () => [] } = options;
  const mirror = createMirrorRoutes({ store, mirror: options.mirror, pools, pulledImages, gate, dialer });
  const pieces = createChunkedWork();
  const logs = createJobLogs();
  const handle = createHandlers(options, { dialer, mirror, audit, recordEnd, pieces, logs, track });
  const admission = createAdmission({ settings: config, machines: () => endpoints.count() });
  const { onTooMany, onSentAhead } = complaintsTo(audit);
  const dispatcher = createDispatcher({ store, audit, proxy, handle, admission, pieces });
  const server = createGuestServer({
    ...{ settings: config, pieces, onTooMany, onSentAhead },
    onRequest: (...request) => track(dispatcher.request(...request)),
    onConnect: (...request) => track(dispatcher.connect(...request)),
  });
  const endpoints = createGuestEndpoints({
    createGuest: (machineId, isRemote) => createGuest({ machineId, isRemote, clock, settings: config, log }),
    ...{ serve: server.serve, onTooMany },
    maxConnections: config.connections,
  });
  const relayAddress = createRelayAddress({
    ...{ store, clock, log, onTooMany, settings: config, directory: options.directory },
    guest: endpoints.remoteGuest,
    serve: server.serve,
    onAgain: (guest) => track(recordEnd(guest, "restarted")),
  });

  function track(work: Promise<void>): void {
    // One guest's request must never end the process, whatever goes wrong with it.
    const settled = work
      .catch((error: unknown) => log.error({ error: describeError(error) }, "request handler failed"))
      .finally(() => inFlight.delete(settled));
    inFlight.add(settled);
  }

  return {
    start: relayAddress.start,
    async open(machineId, socketPath) {
      if (socketPath === undefined) relayAddress.require(machineId);
      await endpoints.open(machineId, socketPath);
    },
    link: relayAddress.link,
    trials: trialsOf(relayAddress, endpoints),
    endOf: (machineId) => endpoints.guest(machineId)?.end,
    async close(machineId) {
      const jobId = endpoints.guest(machineId)?.session?.jobId;
      await endpoints.close(machineId);
      if (jobId !== undefined) logs.drop(jobId);
    },
    logs: { tail: logs.tail, follow: logs.follow },
    lastHeardAt: (machineId) => endpoints.guest(machineId)?.lastHeardAt(),
    lastStatusAt: (machineId) => endpoints.guest(machineId)?.statusAt,
    tellCanceling: (machineId) => tellCanceling(endpoints.guest(machineId)),
    ...{ reload: relayAddress.look, certificateEndsAt: relayAddress.certificateEndsAt },
    load: () => ({ machines: endpoints.count(), heldBytes: admission.heldBytes() }),
    async stop() {
      await Promise.all([relayAddress.close(), endpoints.closeAll()]);
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

function trialsOf({ trials }: RelayAddress, endpoints: GuestEndpoints): RelayTrials {
  const { arePossible, firstWordAt } = trials;
  return {
    arePossible,
    firstWordAt,
    async open(machineId) {
      const link = trials.link(machineId);
      await endpoints.open(machineId, undefined);
      return link;
    },
    async close(machineId) {
      trials.forget(machineId);
      await endpoints.close(machineId);
    },
  };
}
