/**
 * A server for those who run this installation: metrics, the API. It listens on addresses of its own, since it tells more than what GitLab's
 * webhooks may reach. Whoever is not on its allow-list learns nothing and takes up little: connections are few, and requests short.
 */
import { Server as TlsServer } from "node:https";
import type { Socket } from "node:net";
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import { type Clock, every } from "../../base/clock.ts";
import { atMost } from "../../base/deadline.ts";
import { createSampledLog, type Log, type SampledLog } from "../../base/log.ts";
import type { TlsFiles, TlsPair } from "../../base/tls.ts";
import { type AddressSet, canonicalAddress, createAddressSet, limitKey } from "./client.ts";
import { createHttpServer, type HttpLimits, securityHeaders, tlsOptions } from "./http-server.ts";
import {
  bind,
  type CertificateReloader,
  createCertificateReloader,
  parseListener,
  resolveListener,
  type ServerName,
} from "./listener.ts";

/** Open connections of those that may not ask, which get no more than a refusal. */
const MOST_REFUSED_CONNECTIONS = 8;
const REFUSED_IDLE_MS = 5_000;
/** A part of a path, such as the name of a host. */
const LONGEST_PARAMETER = 300;
const CERTIFICATE_CHECK_MS = 10_000;
const CLOSE_LIMIT_MS = 1_000;

/** What every section of the configuration says that is about such a server. */
interface PrivateServerSettings {
  readonly listen: readonly string[];
  readonly tls?: TlsFiles | undefined;
  readonly allow: readonly string[];
}

/** Why a request is not served. */
export interface Refusal {
  readonly status: number;
  readonly code: "unauthorized" | "forbidden" | "too_many";
  readonly message: string;
  readonly headers?: Readonly<Record<string, string | number>>;
}

export interface PrivateServerDeps {
  readonly name: ServerName;
  readonly settings: PrivateServerSettings;
  readonly limits: HttpLimits;
  readonly mostConnections: number;
  /** The longest body of a request; 0: bodies are not read. */
  readonly bodyLimitBytes: number;
  /** What else is asked of a client on the allow-list; undefined for a request that is served. `client` is what it is counted by. */
  readonly refusalOf: (request: FastifyRequest, client: string) => Refusal | undefined;
  /** Adds the routes of one listener, and how failures are answered. */
  readonly addRoutes: (app: FastifyInstance) => void;
  readonly clock: Clock;
  readonly log: Log;
}

export interface PrivateServer {
  /** As bound, such as `http://127.0.0.1:9252`. */
  readonly addresses: readonly string[];
  /** Takes over the allow-list and the certificate. Says in words whether a certificate was taken or refused. Never rejects. */
  reload(settings: PrivateServerSettings): Promise<string[]>;
  /** When the certificate in use ends (epoch ms); undefined without one. */
  certificateEndsAt(): number | undefined;
  close(): Promise<void>;
}

/** Throws HttpError of the codes that `name` has. */
export async function openPrivateServer(deps: PrivateServerDeps): Promise<PrivateServer> {
  const { clock, log, name } = deps;
  let settings = deps.settings;
  let allowed = createAddressSet(settings.allow);
  const leftOut = `more refused requests at ${name.words} were left out`;
  const sampled = createSampledLog({ log, clock, leftOut });
  const apps: FastifyInstance[] = [];
  const certificates = await watchCertificate(deps, apps);
  const gate = createGate(deps, sampled, () => allowed);

  const checkCertificate = async () => {
    const words = certificates && settings.tls ? await certificates.refresh(settings.tls) : undefined;
    return words === undefined ? [] : [words];
  };
  const closeAll = async () => {
    await atMost(clock, CLOSE_LIMIT_MS, Promise.all(apps.map((app) => app.close())));
  };

  const addresses: string[] = [];
  try {
    for (const text of settings.listen)
      addresses.push(
        ...(await openAll(deps, text, (isTls) => appOf(isTls ? certificates?.pair : undefined))),
      );
  } catch (error) {
    await closeAll();
    throw error;
  }
  for (const address of addresses) log.info({ address }, `${name.words} is open`);
  const stopChecking = every(clock, CERTIFICATE_CHECK_MS, () => {
    sampled.tick();
    void checkCertificate();
  });

  function appOf(pair: TlsPair | undefined): FastifyInstance {
    const app = createApp(deps, gate, pair);
    apps.push(app);
    return app;
  }

  return {
    addresses,
    async reload(next) {
      settings = next;
      allowed = createAddressSet(next.allow);
      return await checkCertificate();
    },
    certificateEndsAt: () => certificates?.pair.validUntil,
    async close() {
      stopChecking();
      await closeAll();
      sampled.flush();
    },
  };
}

/** Every address of one entry of `listen`; at least one of them must work. */
async function openAll(
  { name }: PrivateServerDeps,
  text: string,
  appOf: (isTls: boolean) => FastifyInstance,
): Promise<string[]> {
  const bound: string[] = [];
  const places = await resolveListener(parseListener(text), name);
  for (const [index, place] of places.entries()) {
    const isOptional = bound.length > 0 || index < places.length - 1;
    const address = await bind(appOf(place.isTls), place, isOptional, name);
    if (address !== undefined) bound.push(address);
  }
  return bound;
}

async function watchCertificate(
  { settings, name, clock, log }: PrivateServerDeps,
  apps: readonly FastifyInstance[],
): Promise<CertificateReloader | undefined> {
  const { tls, listen } = settings;
  if (tls === undefined || listen.every((text) => !parseListener(text).isTls)) return undefined;
  return await createCertificateReloader(tls, {
    ...{ log, server: name, now: clock.now },
    onPair(pair) {
      for (const { server } of apps)
        if (server instanceof TlsServer) server.setSecureContext(tlsOptions(pair));
    },
  });
}

function createApp(deps: PrivateServerDeps, gate: Gate, pair: TlsPair | undefined): FastifyInstance {
  const { limits, bodyLimitBytes, addRoutes } = deps;
  const app = Fastify({
    serverFactory: (handle) => createHttpServer(limits, pair, handle),
    forceCloseConnections: true,
    exposeHeadRoutes: false,
    routerOptions: { maxParamLength: LONGEST_PARAMETER },
    ...(bodyLimitBytes > 0 ? { bodyLimit: bodyLimitBytes } : {}),
    // A path that cannot be decoded passes by the hooks.
    frameworkErrors(_error, request, reply) {
      if (!gate.refuse(request, reply)) answerUnreadable(reply);
    },
  });
  app.server.on("connection", gate.accept);
  if (bodyLimitBytes === 0) app.removeAllContentTypeParsers();
  app.addHook("onRequest", async (request, reply) => {
    reply.headers(securityHeaders);
    return gate.refuse(request, reply) ? reply : undefined;
  });
  addRoutes(app);
  return app;
}

/** Where nothing can be. */
function answerUnreadable(reply: FastifyReply): void {
  const message = "this path cannot be read";
  void reply.code(404).header("connection", "close").send({ code: "not_found", message, hint: null });
}

interface Gate {
  /** Cuts a connection when there are too many. */
  accept(socket: Socket): void;
  /** Answers a request that may not be served; false for one that may. */
  refuse(request: FastifyRequest, reply: FastifyReply): boolean;
}

function createGate(
  { name, mostConnections, refusalOf }: PrivateServerDeps,
  sampled: SampledLog,
  allowed: () => AddressSet,
): Gate {
  const open = { welcome: new Set<Socket>(), refused: new Set<Socket>() };

  function mayAsk({ remoteAddress }: Socket): boolean {
    const address = canonicalAddress(remoteAddress);
    return address !== undefined && (allowed().isEmpty || allowed().has(address));
  }

  function refusal(request: FastifyRequest, client: string): Refusal | undefined {
    if (mayAsk(request.raw.socket)) return refusalOf(request, client);
    const message = `this address may not ask (${name.section}.allow)`;
    return { status: 403, code: "forbidden", message };
  }

  return {
    accept(socket) {
      const isWelcome = mayAsk(socket);
      const [kind, most] = isWelcome
        ? [open.welcome, mostConnections]
        : [open.refused, MOST_REFUSED_CONNECTIONS];
      if (kind.size >= most) return void socket.destroy();
      kind.add(socket);
      socket.once("close", () => kind.delete(socket));
      if (!isWelcome) socket.setTimeout(REFUSED_IDLE_MS, () => socket.destroy());
      return undefined;
    },
    refuse(request, reply) {
      const client = canonicalAddress(request.raw.socket.remoteAddress) ?? "unknown";
      const key = limitKey(client);
      const found = refusal(request, key);
      if (found === undefined) return false;
      const { status, code, message, headers = {} } = found;
      const fields = { client, status, why: message };
      sampled.write("warn", `${key} ${status}`, fields, `a request at ${name.words} was refused`);
      reply.code(status).headers(headers).header("connection", "close").send({ code, message, hint: null });
      return true;
    },
  };
}

/** What comes behind `Authorization: Bearer`; empty when there is nothing. */
export function bearerIn({ headers }: FastifyRequest): string {
  return /^Bearer +(\S+)$/i.exec(headers.authorization ?? "")?.[1] ?? "";
}
