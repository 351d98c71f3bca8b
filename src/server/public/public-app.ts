import Fastify, {
  type FastifyError,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
} from "fastify";
import { describeError } from "../../base/errors.ts";
import type { TlsPair } from "../../base/tls.ts";
import type { HttpConfig } from "../config.ts";
import type { createClientErrors } from "./client-errors.ts";
import { type HealthDeps, registerHealth } from "./health-routes.ts";
import { createHttpServer } from "./http-server.ts";
import { registerWebhook, type WebhookRouteDeps } from "./webhook-route.ts";

/**
 * What an answer that no page of a browser is needs. A list of our own: most of what helmet adds is about pages and scripts, and
 * its Strict-Transport-Security would bind every port of this host name, GitLab's own perhaps among them.
 */
const securityHeaders: Readonly<Record<string, string>> = {
  "cache-control": "no-store",
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
};

export interface PublicAppDeps extends WebhookRouteDeps, HealthDeps {
  readonly config: HttpConfig;
  readonly clientErrors: ReturnType<typeof createClientErrors>;
}

/** The routes behind one listener, with TLS when there is a pair. */
export function createPublicApp(deps: PublicAppDeps, pair: TlsPair | undefined): FastifyInstance {
  const { config, connections, clientErrors, log } = deps;
  const app = Fastify({
    serverFactory: (handle) => createHttpServer(config, pair, handle),
    clientErrorHandler: clientErrors.onClientError,
    // An authentic delivery over a connection that is open already is taken even while the door closes.
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
    if (status >= 500) log.error({ method, url, why: describeError(error) }, "answering at the door failed");
    return reply
      .code(status)
      .send({ message: status < 500 ? error.message : "this failed; the log says why" });
  });
  registerWebhook(app, deps);
  registerHealth(app, deps);
  return app;
}
