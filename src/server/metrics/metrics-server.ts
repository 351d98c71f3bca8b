/**
 * `/metrics`, on listeners of its own: it tells more of this installation than what GitLab's webhooks may reach. Who is not on the
 * allow-list, or has no token, learns nothing and takes up little: connections are few, requests short, and one scrape is made at a time.
 */
import { Server as TlsServer } from "node:https";
import type { Socket } from "node:net";
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import { type Clock, every } from "../../base/clock.ts";
import { atMost } from "../../base/deadline.ts";
import { describeError } from "../../base/errors.ts";
import { createSampledLog, type Log, type SampledLog } from "../../base/log.ts";
import { createKeyedRateLimit, type KeyedRateLimit } from "../../base/rates.ts";
import { isSecret, type Secret } from "../../base/secret.ts";
import type { TlsPair } from "../../base/tls.ts";
import { type AddressSet, canonicalAddress, createAddressSet, limitKey } from "../public/client.ts";
import { createHttpServer, tlsOptions } from "../public/http-server.ts";
import {
  bind,
  type CertificateReloader,
  createCertificateReloader,
  parseListener,
  resolveListener,
  type ServerName,
} from "../public/listener.ts";
import { securityHeaders } from "../public/public-app.ts";
import { wantsOpenMetrics } from "./accept.ts";
import type { MetricsConfig } from "./config.ts";

const usualLimits = {
  headersTimeout: 5_000,
  requestTimeout: 5_000,
  /** Longer than most scrape intervals, so that a connection is made once. */
  idleTimeout: 90_000,
  maxHeaderBytes: 16 * 1024,
};
/** Open connections of those that may ask, of whom a Prometheus needs one, and of those that may not, which get no more than a refusal. */
const MOST_CONNECTIONS = 32;
const MOST_REFUSED_CONNECTIONS = 8;
const REFUSED_IDLE_MS = 5_000;
/** Of one client. A scrape a second is more than anybody needs. */
const REQUESTS_PER_MINUTE = 120;
const CERTIFICATE_CHECK_MS = 10_000;
const CLOSE_LIMIT_MS = 1_000;

export const metricsServerName: ServerName = {
  words: "the metrics server",
  section: "metrics",
  listenCode: "metrics_listen",
  certificateCode: "metrics_certificate",
};

/** `metrics` of the configuration, with what its token file holds. */
interface MetricsSettings extends MetricsConfig {
  readonly token: Secret | undefined;
}

export interface MetricsServerDeps {
  readonly config: MetricsSettings;
  /** In the form of OpenMetrics, or of Prometheus. */
  readonly scrape: (
    format: "openmetrics" | "prometheus",
  ) => Promise<{ readonly contentType: string; readonly text: string }>;
  readonly clock: Clock;
  readonly log: Log;
  /** Milliseconds and bytes, where they are to be others than usual. */
  readonly limits?: Partial<typeof usualLimits>;
}

export interface MetricsServer {
  /** As bound, such as `http://127.0.0.1:9252`. */
  readonly addresses: readonly string[];
  /** Takes over the allow-list, the token and the certificate. Says in words whether a certificate was taken or refused. Never rejects. */
  reload(config: MetricsSettings): Promise<string[]>;
  /** When the certificate in use ends (epoch ms); undefined without one. */
  certificateEndsAt(): number | undefined;
  close(): Promise<void>;
}

/** Throws HttpError `metrics_listen`, `metrics_certificate`. */
export async function openMetricsServer(deps: MetricsServerDeps): Promise<MetricsServer> {
  const { clock, log } = deps;
  let config = deps.config;
  let allowed = createAddressSet(config.allow);
  const leftOut = "more refused requests for metrics were left out";
  const sampled = createSampledLog({ log, clock, leftOut });
  const apps: FastifyInstance[] = [];
  const addresses: string[] = [];
  const gate = createGate({ clock, sampled, allowed: () => allowed, token: () => config.token });
  const certificates = await watchCertificate(deps, apps);

  const checkCertificate = async () => {
    const words = certificates && config.tls ? await certificates.refresh(config.tls) : undefined;
    return words === undefined ? [] : [words];
  };
  const closeAll = async () => {
    await atMost(clock, CLOSE_LIMIT_MS, Promise.all(apps.map((app) => app.close())));
  };

  try {
    for (const text of config.listen) {
      const places = await resolveListener(parseListener(text), metricsServerName);
      const before = addresses.length;
      for (const [index, place] of places.entries()) {
        const app = createApp(deps, gate, place.isTls ? certificates?.pair : undefined);
        apps.push(app);
        const isOptional = addresses.length > before || index < places.length - 1;
        const address = await bind(app, place, isOptional, metricsServerName);
        if (address !== undefined) addresses.push(address);
      }
    }
  } catch (error) {
    await closeAll();
    throw error;
  }
  for (const address of addresses) log.info({ address }, "metrics are served");
  const stopChecking = every(clock, CERTIFICATE_CHECK_MS, () => {
    sampled.tick();
    void checkCertificate();
  });
  return {
    addresses,
    async reload(next) {
      config = next;
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

async function watchCertificate(
  { config, clock, log }: MetricsServerDeps,
  apps: readonly FastifyInstance[],
): Promise<CertificateReloader | undefined> {
  if (config.tls === undefined || config.listen.every((text) => !parseListener(text).isTls)) return undefined;
  return await createCertificateReloader(config.tls, {
    ...{ log, server: metricsServerName, now: clock.now },
    onPair(pair) {
      for (const { server } of apps)
        if (server instanceof TlsServer) server.setSecureContext(tlsOptions(pair));
    },
  });
}

function createApp(
  { scrape, log, limits = {} }: MetricsServerDeps,
  gate: Gate,
  pair: TlsPair | undefined,
): FastifyInstance {
  const app = Fastify({
    serverFactory: (handle) => createHttpServer({ ...usualLimits, ...limits }, pair, handle),
    forceCloseConnections: true,
    exposeHeadRoutes: false,
    // A path that cannot be decoded passes by the hooks.
    frameworkErrors(_error, request, reply) {
      if (!gate.refuse(request, reply)) answerNothing(reply);
    },
  });
  app.server.on("connection", gate.accept);
  app.removeAllContentTypeParsers();
  app.addHook("onRequest", async (request, reply) => {
    reply.headers(securityHeaders);
    return gate.refuse(request, reply) ? reply : undefined;
  });
  app.setNotFoundHandler((_request, reply) => answerNothing(reply));
  app.setErrorHandler((error, _request, reply) => {
    const status = (error as { statusCode?: number }).statusCode ?? 500;
    if (status >= 500) log.error({ why: describeError(error) }, "metrics could not be given");
    const message = status < 500 ? describeError(error) : "metrics could not be given; the log says why";
    return reply.code(status).header("connection", "close").send({ message });
  });
  app.get("/metrics", async (request, reply) => {
    const format = wantsOpenMetrics(request.headers.accept) ? "openmetrics" : "prometheus";
    const { contentType, text } = await scrape(format);
    return reply.header("content-type", contentType).send(text);
  });
  return app;
}

function answerNothing(reply: FastifyReply): void {
  void reply.code(404).header("connection", "close").send({ message: "metrics are at /metrics" });
}

interface Gate {
  /** Cuts a connection when there are too many. */
  accept(socket: Socket): void;
  /** Answers a request that may not be served; false for one that may. */
  refuse(request: FastifyRequest, reply: FastifyReply): boolean;
}

interface GateDeps {
  readonly clock: Clock;
  readonly sampled: SampledLog;
  readonly allowed: () => AddressSet;
  readonly token: () => Secret | undefined;
}

function createGate({ clock, sampled, allowed, token }: GateDeps): Gate {
  const open = { welcome: new Set<Socket>(), refused: new Set<Socket>() };
  const rate: KeyedRateLimit = createKeyedRateLimit(clock, () => REQUESTS_PER_MINUTE);

  function mayAsk({ remoteAddress }: Socket): boolean {
    const address = canonicalAddress(remoteAddress);
    return address !== undefined && (allowed().isEmpty || allowed().has(address));
  }

  function refusalOf({ raw, headers }: FastifyRequest): Refusal | undefined {
    const { socket } = raw;
    if (!mayAsk(socket)) return { status: 403, message: "this address may not ask (metrics.allow)" };
    const waitS = rate.take(limitKey(canonicalAddress(socket.remoteAddress) ?? ""));
    if (waitS > 0)
      return { status: 429, message: `ask again in ${waitS} s`, headers: { "retry-after": waitS } };
    const wanted = token();
    if (wanted === undefined || isSecret(bearerIn(headers.authorization), wanted)) return undefined;
    return {
      status: 401,
      message: "no valid token: send it as Authorization: Bearer … (metrics.tokenFile)",
      headers: { "www-authenticate": "Bearer" },
    };
  }

  return {
    accept(socket) {
      const isWelcome = mayAsk(socket);
      const [kind, most] = isWelcome
        ? [open.welcome, MOST_CONNECTIONS]
        : [open.refused, MOST_REFUSED_CONNECTIONS];
      if (kind.size >= most) return void socket.destroy();
      kind.add(socket);
      socket.once("close", () => kind.delete(socket));
      if (!isWelcome) socket.setTimeout(REFUSED_IDLE_MS, () => socket.destroy());
      return undefined;
    },
    refuse(request, reply) {
      const refusal = refusalOf(request);
      if (refusal === undefined) return false;
      const { status, message, headers = {} } = refusal;
      const client = canonicalAddress(request.raw.socket.remoteAddress) ?? "unknown";
      sampled.write(
        "warn",
        `${limitKey(client)} ${status}`,
        { client, status, why: message },
        "a request for metrics was refused",
      );
      reply.code(status).headers(headers).header("connection", "close").send({ message });
      return true;
    },
  };
}

interface Refusal {
  readonly status: number;
  readonly message: string;
  readonly headers?: Readonly<Record<string, string | number>>;
}

function bearerIn(authorization: string | undefined): string {
  return /^Bearer +(\S+)$/i.exec(authorization ?? "")?.[1] ?? "";
}
