/** A route that reads a body and answers: what FireRunner's server is built on, without what it does. */
import type { AddressInfo } from "node:net";
import Fastify from "fastify";
import { serveParent } from "./child.ts";

const app = Fastify();

/** Answers where it listens. */
async function listen(_: undefined): Promise<string> {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => done(null, body));
  app.post("/webhook", (request, reply) => {
    const { length } = request.body as Buffer;
    reply.code(200).send({ message: `${length} bytes` });
  });
  await app.listen({ host: "127.0.0.1", port: 0 });
  return `http://127.0.0.1:${(app.server.address() as AddressInfo).port}/webhook`;
}

const handlers = { listen };
export type BareRouteHandlers = typeof handlers;

serveParent<never>(handlers, () => app.close());
