/** `/metrics`, on listeners of its own, for a Prometheus that may hold a token. */
import type { FastifyInstance, FastifyReply } from "fastify";
import type { Clock } from "../../base/clock.ts";
import { describeError } from "../../base/errors.ts";
import type { Log } from "../../base/log.ts";
import { createKeyedRateLimit } from "../../base/rates.ts";
import { isSecret, type Secret } from "../../base/secret.ts";
import type { ServerName } from "../network/listener.ts";
import { bearerIn, openPrivateServer, type PrivateServer, type Refusal } from "../network/private-server.ts";
import type { MetricsSettings } from "./config.ts";

const usualLimits = {
  headersTimeout: 5_000,
  requestTimeout: 5_000,
  /** Longer than most scrape intervals, so that a connection is made once. */
  idleTimeout: 90_000,
  maxHeaderBytes: 16 * 1024,
};
/** A Prometheus needs one connection. */
const MOST_CONNECTIONS = 32;
/** Of one client. A scrape a second is more than anybody needs. */
const REQUESTS_PER_MINUTE = 120;

export const metricsServerName: ServerName = {
  words: "the metrics server",
  section: "metrics",
  listenCode: "metrics_listen",
  certificateCode: "metrics_certificate",
};

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

export interface MetricsServer extends Omit<PrivateServer, "reload"> {
  /** Takes over the token, the allow-list and the certificate. Says in words whether a certificate was taken or refused. Never rejects. */
  reload(config: MetricsSettings): Promise<string[]>;
}

/** Throws HttpError `metrics_listen`, `metrics_certificate`. */
export async function openMetricsServer(deps: MetricsServerDeps): Promise<MetricsServer> {
  const { clock, log } = deps;
  let { token } = deps.config;
  const rate = createKeyedRateLimit(clock, () => REQUESTS_PER_MINUTE);
  const server = await openPrivateServer({
    ...{ name: metricsServerName, settings: deps.config, clock, log },
    limits: { ...usualLimits, ...deps.limits },
    mostConnections: MOST_CONNECTIONS,
    bodyLimitBytes: 0,
    refusalOf: (request, client) => tooOften(rate.take(client)) ?? withoutToken(bearerIn(request), token),
    addRoutes: (app) => addRoutes(app, deps),
  });
  return {
    ...server,
    async reload(next) {
      token = next.token;
      return await server.reload(next);
    },
  };
}

function tooOften(waitS: number): Refusal | undefined {
  if (waitS === 0) return undefined;
  const headers = { "retry-after": waitS };
  return { status: 429, code: "too_many", message: `ask again in ${waitS} s`, headers };
}

function withoutToken(given: string, wanted: Secret | undefined): Refusal | undefined {
  if (wanted === undefined || isSecret(given, wanted)) return undefined;
  return {
    status: 401,
    code: "unauthorized",
    message: "no valid token: send it as Authorization: Bearer … (metrics.tokenFile)",
    headers: { "www-authenticate": "Bearer" },
  };
}

function addRoutes(app: FastifyInstance, { scrape, log }: MetricsServerDeps): void {
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
}

function answerNothing(reply: FastifyReply): void {
  void reply.code(404).header("connection", "close").send({ message: "metrics are at /metrics" });
}

const OPENMETRICS = "application/openmetrics-text";
/** What a client lists beyond these is not looked at. */
const MOST_ENTRIES = 20;

/** OpenMetrics 1.0, if the client names it and likes it no less than plain text. */
function wantsOpenMetrics(accept: string | undefined): boolean {
  const entries = (accept ?? "").split(",").slice(0, MOST_ENTRIES).map(readEntry);
  const open = entries.filter(
    ({ type, version }) => type === OPENMETRICS && (version ?? "1.0.0") === "1.0.0",
  );
  const plain = entries.filter(({ type }) => type === "text/plain" || type === "text/*" || type === "*/*");
  const liking = (list: readonly Entry[]) => Math.max(0, ...list.map(({ quality }) => quality));
  return liking(open) > 0 && liking(open) >= liking(plain);
}

interface Entry {
  readonly type: string;
  readonly version: string | undefined;
  /** 0 to 1. */
  readonly quality: number;
}

function readEntry(text: string): Entry {
  const [type = "", ...parameters] = text.split(";").map((part) => part.trim().toLowerCase());
  const parameter = (name: string) =>
    parameters.find((each) => each.startsWith(`${name}=`))?.slice(name.length + 1);
  const quality = Number(parameter("q") ?? "1");
  return {
    type,
    version: parameter("version")?.replaceAll('"', ""),
    quality: Number.isFinite(quality) ? quality : 0,
  };
}
