import Fastify, {
  type FastifyError,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
} from "fastify";
import { describeError } from "../../base/errors.ts";
import type { Log } from "../../base/log.ts";
import type { KeyedRateLimit } from "../../base/rates.ts";
import type { TlsPair } from "../../base/tls.ts";
import type { Readiness } from "../../views/readiness.ts";
import type { HttpConfig } from "../config.ts";
import type { Client } from "../network/client.ts";
import { createHttpServer, securityHeaders } from "../network/http-server.ts";
import type { createClientErrors } from "./refusal.ts";
import { registerWebhook, type WebhookRouteDeps } from "./webhook-route.ts";

/** GitLab sends up to 20 custom headers of up to 2,048 characters each, beside its own. */
const MAX_HEADER_BYTES = 64 * 1024;

export interface PublicAppDeps extends WebhookRouteDeps, HealthDeps {
  readonly config: HttpConfig;
  readonly clientErrors: ReturnType<typeof createClientErrors>;
}

/** The routes behind one listener, with TLS when there is a pair. */
export function createPublicApp(deps: PublicAppDeps, pair: TlsPair | undefined): FastifyInstance {
  const { config, connections, clientErrors, log } = deps;
  const app = Fastify({
    serverFactory: (handle) =>
      createHttpServer({ ...config, maxHeaderBytes: MAX_HEADER_BYTES }, pair, handle),
    clientErrorHandler: clientErrors.onClientError,
    // An authentic delivery over a connection that is open already is taken even while the public server closes.
    return503OnClosing: false,
    exposeHeadRoutes: false,
    routerOptions: { ignoreTrailingSlash: true, ignoreDuplicateSlashes: true },
    // A path that cannot be decoded passes by the hooks.
    frameworkErrors(_error, request, reply) {
      begin(request, reply);
      void refuseUnknown(request, reply);
    },
  });
  connections.watch(app.server, pair !== undefined);
  clientErrors.watch(app.server);

  function begin(request: FastifyRequest, reply: FastifyReply): void {
    reply.raw.once("close", connections.begin(request.raw));
    reply.headers(securityHeaders);
  }

  async function refuseUnknown(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    const message = "there is nothing here; webhooks go to /webhook, health is at /healthz and /readyz";
    await deps.refuse(request, reply, { reason: "unknown path", status: 404, message });
  }

  app.removeAllContentTypeParsers();
  app.addHook("onRequest", async (request, reply) => {
    begin(request, reply);
    if (!request.is404) return undefined;
    await refuseUnknown(request, reply);
    return reply;
  });
  app.addHook("onSend", async (request, reply) => {
    // What comes after this request cannot be read.
    if (clientErrors.isSpoilt(request.raw.socket)) reply.header("connection", "close");
  });
  app.setErrorHandler((error: FastifyError, request, reply) => {
    const { method, url } = request;
    const status = error.statusCode ?? 500;
    if (status >= 500)
      log.error({ method, url, why: describeError(error) }, "answering at the public server failed");
    return reply
      .code(status)
      .send({ message: status < 500 ? error.message : "this failed; the log says why" });
  });
  registerWebhook(app, deps);
  registerHealth(app, deps);
  return app;
}

interface HealthDeps {
  readonly readiness: () => Readiness | Promise<Readiness>;
  readonly clientOf: (request: FastifyRequest) => Client;
  /** A limit of its own: those who watch ask often, and must not use up what a client may send unproven. */
  readonly limit: KeyedRateLimit;
  readonly log: Log;
}

/**
 * `/healthz`: the program answers. `/readyz`: it can claim jobs and start machines, else 503. Anybody can ask: what is missing, and
 * so what this is made of, is for “firerunner status”.
 */
function registerHealth(app: FastifyInstance, { readiness, clientOf, limit, log }: HealthDeps): void {
  const options = { exposeHeadRoute: true, onRequest };

  async function onRequest(request: FastifyRequest, reply: FastifyReply): Promise<unknown> {
    const waitS = limit.take(clientOf(request).key);
    if (waitS === 0) return undefined;
    return reply
      .code(429)
      .header("retry-after", waitS)
      .send({ message: `ask again in ${waitS} s` });
  }

  app.get("/healthz", options, async () => ({ alive: true }));
  app.get("/readyz", options, async (_request, reply) => {
    const ready = await isReady();
    return reply.code(ready ? 200 : 503).send({ ready });
  });

  async function isReady(): Promise<boolean> {
    try {
      return (await readiness()).ready;
    } catch (error) {
      log.error({ why: describeError(error) }, "readiness could not be told");
      return false;
    }
  }
}
