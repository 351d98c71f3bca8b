/**
 * The public server. A connection is counted and may be displaced (connections.ts); a request is one of a client (network/client.ts) and takes
 * a route of public-app.ts: health, or a webhook (webhook-route.ts), whose body is read (read-body.ts) and kept within a common budget of
 * memory (body-budget.ts) while it is proved. Whatever proves nothing ends in refusal.ts. network/listeners.ts has the addresses and the
 * certificate. This file puts all of it together, reloads it and closes it.
 */
import type { FastifyRequest } from "fastify";
import { type Clock, every } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import { createSampledLog } from "../../base/log.ts";
import { createKeyedRateLimit } from "../../base/rates.ts";
import { MIB_BYTES } from "../../base/units.ts";
import type { Readiness } from "../../views/readiness.ts";
import type { HttpConfig } from "../config.ts";
import { type Client, clientOf, createAddressSet } from "../network/client.ts";
import type { ServerName } from "../network/listener.ts";
import { openListeners } from "../network/listeners.ts";
import { createBodyBudget } from "./body-budget.ts";
import { createConnections } from "./connections.ts";
import { createPublicApp, type PublicAppDeps } from "./public-app.ts";
import { createFairQueue } from "./read-body.ts";
import { createClientErrors, createRefuse, createTally, type RequestCounts } from "./refusal.ts";
import type { WebhookHandler } from "./webhook-route.ts";

/** Memory for the bodies of all requests at one time; authentic deliveries beyond it are taken without their body. */
const BODY_MEMORY_BYTES = 32 * MIB_BYTES;
const HEALTH_PER_MINUTE = 600;
/** How often the certificate's files are looked at. */
const CERTIFICATE_CHECK_MS = 10_000;
/** How long requests may still be answered when the public server closes. */
const CLOSE_LIMIT_MS = 5_000;

export const publicServerName: ServerName = {
  words: "the public server",
  section: "http",
  listenCode: "door_listen",
  certificateCode: "door_certificate",
};

export interface PublicServerDeps {
  readonly config: HttpConfig;
  /** Undefined: no webhooks are taken, only questions after health. */
  readonly handler: WebhookHandler | undefined;
  readonly readiness: () => Readiness | Promise<Readiness>;
  readonly clock: Clock;
  readonly log: Log;
}

/** What the program sees of it. */
export interface PublicServer {
  /** As bound, such as `https://0.0.0.0:8443`; empty when `http.listen` is. */
  readonly addresses: readonly string[];
  /**
   * Takes over the allow-list, the proxies, the limit and the certificate, without cutting any connection. Returns in words whether a
   * certificate was taken or refused. Never rejects.
   */
  reload(config: HttpConfig): Promise<string[]>;
  /** Takes nothing new, lets what is being answered be answered for at most 5 s, and cuts the rest. */
  close(): Promise<void>;
  counts(): RequestCounts;
  /** When the certificate in use ends (epoch ms); undefined without one. */
  certificateEndsAt(): number | undefined;
}

/** Listens wherever the configuration says, and takes webhooks. Throws HttpError `door_listen`, `door_certificate`. */
export async function openPublicServer(deps: PublicServerDeps): Promise<PublicServer> {
  const { clock, log, handler, readiness } = deps;
  let config = deps.config;
  let allowed = createAddressSet(config.allow);
  let trusted = createAddressSet(config.trustedProxies);
  const tally = createTally();
  const sampled = createSampledLog({
    log,
    clock,
    leftOut: "more warnings of clients at the public server were left out",
  });
  const connections = createConnections({ clock, onDisplaced: () => void tally.displaced++ });
  const clientErrors = createClientErrors({ connections, tally, sampled, clock });
  const clientFor = (request: FastifyRequest): Client => clientOf(request.raw, trusted);
  const unproven = createKeyedRateLimit(clock, () => config.unprovenPerMinute);
  const refuse = createRefuse({ clientOf: clientFor, limit: unproven, tally, sampled, clock });
  const routes: PublicAppDeps = {
    ...{ config, handler, readiness, log, connections, clientErrors, refuse, tally, sampled },
    clientOf: clientFor,
    allowed: () => allowed,
    bodyLimitBytes: config.bodyLimit * MIB_BYTES,
    bodies: createBodyBudget(BODY_MEMORY_BYTES),
    takeTurn: createFairQueue(),
    isSpoilt: clientErrors.isSpoilt,
    limit: createKeyedRateLimit(clock, () => HEALTH_PER_MINUTE),
  };
  const opened = await openListeners({
    ...{ name: publicServerName, settings: config, clock, log },
    appOf: (pair) => createPublicApp(routes, pair),
    async closeAll(apps) {
      const closing = apps.map((app) => app.close());
      await connections.finish(CLOSE_LIMIT_MS);
      await Promise.all(closing);
    },
  });
  const stopChecking = every(clock, CERTIFICATE_CHECK_MS, () => {
    sampled.tick();
    void opened.checkCertificate(config.tls);
  });
  return {
    addresses: opened.addresses,
    async reload(next) {
      config = next;
      allowed = createAddressSet(next.allow);
      trusted = createAddressSet(next.trustedProxies);
      return await opened.checkCertificate(next.tls);
    },
    async close() {
      stopChecking();
      await opened.close();
      sampled.flush();
    },
    certificateEndsAt: opened.certificateEndsAt,
    counts: () => ({ ...tally, refused: { ...tally.refused }, openConnections: connections.open }),
  };
}
