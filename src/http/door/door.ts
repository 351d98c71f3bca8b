import type { Server as TlsServer } from "node:https";
import Fastify, { type FastifyInstance, type FastifyRequest } from "fastify";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { HttpConfig } from "../config.ts";
import type { HookDesk, Readiness } from "../hook-desk.ts";
import { createAddressSet } from "./address.ts";
import { createBodyRoom } from "./body-room.ts";
import { type Client, clientOf } from "./client.ts";
import { createClientErrors } from "./client-errors.ts";
import { createConnections } from "./connections.ts";
import { createTally, type DoorCounts } from "./counts.ts";
import { registerHealth } from "./health-routes.ts";
import { bind, type Listener, parseListener, resolveListener } from "./listener.ts";
import { createRefuse } from "./refusal.ts";
import { createSampledLog } from "./sampled-log.ts";
import { createDoorServer, tlsOptions } from "./server.ts";
import { createTlsKeeper, type TlsKeeper } from "./tls-keeper.ts";
import { createUnprovenLimit } from "./unproven-limit.ts";
import { registerWebhook } from "./webhook-route.ts";

/** Memory for the bodies of all requests at one time; authentic deliveries beyond it are taken without their body. */
const BODY_ROOM_BYTES = 64 * 1024 ** 2;
const MIB_BYTES = 1024 ** 2;
const HEALTH_PER_MINUTE = 600;
/** How often the certificate's files are looked at. */
const LOOK_MS = 10_000;
/** How long requests may still be answered when the door closes. */
const CLOSE_LIMIT_MS = 5_000;

export interface DoorDeps {
  readonly config: HttpConfig;
  /** Undefined: no webhooks are taken, only questions after health. */
  readonly desk: HookDesk | undefined;
  readonly readiness: () => Readiness | Promise<Readiness>;
  readonly clock: Clock;
  readonly log: Log;
}

/** Where the network comes in. */
export interface Door {
  /** As bound, such as `https://0.0.0.0:8443`; empty when `http.listen` is. */
  readonly addresses: readonly string[];
  /**
   * Takes over the allow-list, the proxies, the limit and the certificate, without cutting any connection. Answers what is worth saying
   * beyond that, in words: a certificate that was taken or refused, and what waits for a restart. Never rejects.
   */
  reload(config: HttpConfig): Promise<string[]>;
  /** Takes nothing new, lets what is being answered be answered for at most 5 s, and cuts the rest. */
  close(): Promise<void>;
  counts(): DoorCounts;
}

/** What all listeners share. */
interface Shared {
  readonly config: HttpConfig;
  readonly deps: DoorDeps;
  readonly wire: (app: FastifyInstance) => void;
  readonly connections: ReturnType<typeof createConnections>;
  readonly clientErrors: ReturnType<typeof createClientErrors>;
}

/** Listens wherever the configuration says, and takes webhooks. Throws HttpError `door_listen`, `door_certificate`. */
export async function openDoor(deps: DoorDeps): Promise<Door> {
  const { clock, log, desk, readiness } = deps;
  let config = deps.config;
  let allowed = createAddressSet(config.allow);
  let trusted = createAddressSet(config.trustedProxies);
  const tally = createTally();
  const sampled = createSampledLog(log, clock);
  const connections = createConnections({ now: clock.now, onDisplaced: () => void tally.displaced++ });
  const clientErrors = createClientErrors({ connections, tally, sampled });
  const clientFor = (request: FastifyRequest): Client => clientOf(request.raw, trusted);
  const limit = createUnprovenLimit(clock, () => config.unprovenPerMinute);
  const refuse = createRefuse({ clientOf: clientFor, limit, tally, sampled });
  const room = createBodyRoom(BODY_ROOM_BYTES);

  function wire(app: FastifyInstance): void {
    app.addHook("onRequest", async (request, reply) => {
      reply.raw.once("close", connections.begin(request.raw.socket));
      reply.headers(securityHeaders);
      if (!request.is404) return;
      await refuse(request, reply, { reason: "unknown path", status: 404, message: "there is nothing here" });
      return reply;
    });
    registerHealth(app, {
      readiness,
      clientOf: clientFor,
      limit: createUnprovenLimit(clock, () => HEALTH_PER_MINUTE),
      log,
    });
    registerWebhook(app, {
      ...{ desk, room, connections, refuse, tally, sampled },
      clientOf: clientFor,
      allowed: () => allowed,
      bodyLimitBytes: config.bodyLimit * MIB_BYTES,
      isSpoilt: clientErrors.isSpoilt,
    });
  }

  const opened = await openListeners({ config, deps, wire, connections, clientErrors });
  const timer = setInterval(() => {
    sampled.tick();
    void opened.look(config);
  }, LOOK_MS);
  return {
    addresses: opened.addresses,
    async reload(next) {
      const waiting = restartWords(config, next);
      config = { ...next, listen: config.listen };
      allowed = createAddressSet(next.allow);
      trusted = createAddressSet(next.trustedProxies);
      return [...waiting, ...(await opened.look(config))];
    },
    async close() {
      clearInterval(timer);
      await opened.close();
      sampled.flush();
    },
    counts: () => ({ ...tally, refused: { ...tally.refused }, openConnections: connections.open }),
  };
}

/** Nothing here is a page: no browser shall guess, frame or keep anything. */
const securityHeaders = {
  "cache-control": "no-store",
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
  "referrer-policy": "no-referrer",
  "strict-transport-security": "max-age=31536000",
  "x-content-type-options": "nosniff",
};

interface Listeners {
  readonly addresses: readonly string[];
  /** Looks whether the certificate has changed. */
  look(config: HttpConfig): Promise<string[]>;
  close(): Promise<void>;
}

/** Opens every listener, or none. */
async function openListeners(shared: Shared): Promise<Listeners> {
  const { config, deps, connections } = shared;
  const tlsServers: TlsServer[] = [];
  const keeper = await keepCertificate(shared, tlsServers);
  const apps: FastifyInstance[] = [];
  const addresses: string[] = [];
  const close = async () => {
    const closing = apps.map((app) => app.close());
    await connections.finish(CLOSE_LIMIT_MS);
    await Promise.all(closing);
  };
  try {
    for (const text of config.listen) {
      const bound = await openAll(shared, parseListener(text), keeper, apps, tlsServers);
      addresses.push(...bound);
    }
  } catch (error) {
    await close();
    throw error;
  }
  for (const address of addresses) deps.log.info({ address }, "the door is open");
  return {
    addresses,
    async look({ tls }) {
      const words = keeper && tls ? await keeper.look(tls) : undefined;
      return words === undefined ? [] : [words];
    },
    close,
  };
}

async function keepCertificate(
  { config, deps }: Shared,
  servers: readonly TlsServer[],
): Promise<TlsKeeper | undefined> {
  if (config.tls === undefined || config.listen.every((text) => !parseListener(text).isTls)) return undefined;
  return await createTlsKeeper(config.tls, {
    log: deps.log,
    now: deps.clock.now,
    onPair: (pair) => {
      for (const server of servers) server.setSecureContext(tlsOptions(pair));
    },
  });
}

/** Every address of one entry of `http.listen`; at least one of them must work. */
async function openAll(
  shared: Shared,
  listener: Listener,
  keeper: TlsKeeper | undefined,
  apps: FastifyInstance[],
  tlsServers: TlsServer[],
): Promise<string[]> {
  const bound: string[] = [];
  const places = await resolveListener(listener);
  for (const [index, place] of places.entries()) {
    const app = createListenerApp(shared, place.isTls ? keeper : undefined, tlsServers);
    apps.push(app);
    const isOptional = bound.length > 0 || index < places.length - 1;
    const address = await bind(app, place, isOptional);
    if (address !== undefined) bound.push(address);
  }
  return bound;
}

function createListenerApp(
  shared: Shared,
  keeper: TlsKeeper | undefined,
  tlsServers: TlsServer[],
): FastifyInstance {
  const { config, connections, clientErrors } = shared;
  const app = Fastify({
    logger: false,
    serverFactory(handle) {
      const server = createDoorServer(config, keeper?.pair, handle);
      if (keeper) tlsServers.push(server as TlsServer);
      connections.watch(server, keeper !== undefined);
      clientErrors.watch(server);
      return server;
    },
    clientErrorHandler: clientErrors.onClientError,
  });
  shared.wire(app);
  return app;
}

/** What of a changed configuration is not taken over while the door is open, in words. */
function restartWords(before: HttpConfig, next: HttpConfig): string[] {
  const same = (key: keyof HttpConfig) => JSON.stringify(before[key]) === JSON.stringify(next[key]);
  const keys = ["listen", "bodyLimit", "headersTimeout", "requestTimeout", "idleTimeout"] as const;
  return keys.filter((key) => !same(key)).map((key) => `http.${key}: takes effect after a restart`);
}
