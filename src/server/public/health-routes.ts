import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { describeError } from "../../base/errors.ts";
import type { Log } from "../../base/log.ts";
import type { KeyedRateLimit } from "../../base/token-bucket.ts";
import type { Client } from "./client.ts";
import type { Readiness } from "./webhook-handler.ts";

export interface HealthDeps {
  readonly readiness: () => Readiness | Promise<Readiness>;
  readonly clientOf: (request: FastifyRequest) => Client;
  /** A limit of its own: those who watch ask often, and must not use up what a client may send unproven. */
  readonly limit: KeyedRateLimit;
  readonly log: Log;
}

/**
 * `/healthz`: the program answers. `/readyz`: it can claim jobs and start machines, else 503. Strangers can ask: what is missing, and
 * so what this is made of, is for “firerunner status”.
 */
export function registerHealth(app: FastifyInstance, { readiness, clientOf, limit, log }: HealthDeps): void {
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
