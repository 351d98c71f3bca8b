/**
 * A server for those who run this installation: metrics, the API. It listens on addresses of its own, since it tells more than what GitLab's
 * webhooks may reach. Whoever is not on its allow-list learns nothing and takes up little: connections are few, and requests short.
 */
import type { Socket } from "node:net";
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import { type Clock, every } from "../../base/clock.ts";
import { atMost } from "../../base/deadline.ts";
import { createSampledLog, type Log, type SampledLog } from "../../base/log.ts";
import type { TlsFiles, TlsPair } from "../../base/tls.ts";
import { type AddressSet, canonicalAddress, createAddressSet, limitKey } from "./client.ts";
import { createHttpServer, type HttpLimits, securityHeaders } from "./http-server.ts";
import type { ServerName } from "./listener.ts";
import { type Listeners, openListeners } from "./listeners.ts";

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

export interface PrivateServer extends Omit<Listeners, "checkCertificate"> {
  /** Takes over the allow-list and the certificate. Says in words whether a certificate was taken or refused. Never rejects. */
  reload(settings: PrivateServerSettings): Promise<string[]>;
}

/** Throws HttpError of the codes that `name` has. */
export async function openPrivateServer(deps: PrivateServerDeps): Promise<PrivateServer> {
  const { clock, log, name } = deps;
  let settings = deps.settings;
  let allowed = createAddressSet(settings.allow);
  const leftOut = `more refused requests at ${name.words} were left out`;
  const sampled = createSampledLog({ log, clock, leftOut });
  const gate = createGate(deps, sampled, () => allowed);
  const listeners = await openListeners({
    ...{ name, settings, clock, log },
    appOf: (pair) => createApp(deps, gate, pair),
    closeAll: async (apps) => {
      await atMost(clock, CLOSE_LIMIT_MS, Promise.all(apps.map((app) => app.close())));
    },
  });
  const stopChecking = every(clock, CERTIFICATE_CHECK_MS, () => {
    sampled.tick();
    void listeners.checkCertificate(settings.tls);
  });
  return {
    addresses: listeners.addresses,
    async reload(next) {
      settings = next;
      allowed = createAddressSet(next.allow);
      return await listeners.checkCertificate(next.tls);
    },
    certificateEndsAt: listeners.certificateEndsAt,
    async close() {
      stopChecking();
      await listeners.close();
      sampled.flush();
    },
  };
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
