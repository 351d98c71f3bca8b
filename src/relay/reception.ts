import { type IncomingMessage, type ServerResponse, STATUS_CODES } from "node:http";
import type { Socket } from "node:net";
import { describeError, FireRunnerError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import type { Store } from "../store/store.ts";
import type { Audit } from "./audit.ts";
import type { EgressProxy } from "./egress-proxy.ts";
import { EgressRefusal, statusPhrase } from "./egress-refusal.ts";
import { Refusal } from "./errors.ts";
import { type Exchange, reply } from "./exchange.ts";
import type { Guest } from "./guest.ts";
import { type Route, routeOf } from "./routes.ts";

/** For a refused tunnel's words to arrive; after that its connection is not kept for a guest that does not close it. */
const LINGER_MS = 2_000;

export type Handle = (exchange: Exchange, route: Route) => Promise<void>;

export interface ReceptionOptions {
  readonly store: Store;
  readonly audit: Audit;
  readonly log: Log;
  readonly proxy: EgressProxy;
  readonly handle: Handle;
}

/** Where every request of every guest comes in: signs of life, limits, the route, and what becomes of an error. Never throws. */
export interface Reception {
  request(guest: Guest, request: IncomingMessage, response: ServerResponse): Promise<void>;
  connect(guest: Guest, request: IncomingMessage, socket: Socket, head: Buffer): Promise<void>;
}

export function createReception({ store, audit, log, proxy, handle }: ReceptionOptions): Reception {
  const heard = new WeakSet<Guest>();

  async function admit(guest: Guest): Promise<void> {
    guest.noteHeard();
    if (!guest.requests.tryTake()) {
      throw new Refusal(429, "too many requests", {
        rule: "too-many-requests",
        headers: { "Retry-After": "1" },
      });
    }
    if (heard.has(guest)) return;
    heard.add(guest);
    await store.markHeard(guest.machineId);
  }

  async function dispatch(exchange: Exchange): Promise<void> {
    const { request, path } = exchange;
    const isAbsolute = !path.startsWith("/");
    if (isAbsolute) return await proxy.forward(exchange);
    const route = routeOf(request.method ?? "", path);
    if (route === undefined) {
      throw new Refusal(404, "404 Not Found - the relay serves one job's own requests and its repository");
    }
    await handle(exchange, route);
  }

  /** What a guest is told of an error, and what is written down. Errors of ours are for the log: they may name paths. */
  function refusalOf(guest: Guest, error: unknown): Refusal {
    if (error instanceof Refusal) {
      if (error.rule !== undefined) audit.ruleBroken(guest, error.rule);
      log.debug({ machineId: guest.machineId, status: error.status, error: describeError(error) }, "refused");
      return error;
    }
    log.error({ machineId: guest.machineId, error: describeError(error) }, "request failed");
    const isOurs = error instanceof FireRunnerError;
    return new Refusal(isOurs ? 503 : 500, isOurs ? "try again" : "internal error", { cause: error });
  }

  return {
    async request(guest, request, response) {
      const exchange = exchangeOf(guest, request, response);
      try {
        await admit(guest);
        await dispatch(exchange);
      } catch (error) {
        if (isGone(exchange)) return;
        answer(exchange, refusalOf(guest, error));
      }
    },
    async connect(guest, request, socket, head) {
      try {
        await admit(guest);
        await proxy.tunnel(guest, request, socket, head);
      } catch (error) {
        const refusal = refusalOf(guest, error);
        const { status, message } = refusal;
        const text = `${message}\n`;
        setTimeout(() => socket.destroy(), LINGER_MS).unref();
        socket.end(
          `HTTP/1.1 ${status} ${phraseOf(refusal)}\r\nContent-Type: text/plain; charset=utf-8\r\n` +
            `Content-Length: ${Buffer.byteLength(text)}\r\nConnection: close\r\n\r\n${text}`,
        );
      }
    },
  };
}

function phraseOf(refusal: Refusal): string {
  return refusal instanceof EgressRefusal
    ? statusPhrase(refusal)
    : (STATUS_CODES[refusal.status] ?? "Refused");
}

function exchangeOf(guest: Guest, request: IncomingMessage, response: ServerResponse): Exchange {
  const url = request.url ?? "";
  const queryAt = url.indexOf("?");
  const [path, query] = queryAt < 0 ? [url, ""] : [url.slice(0, queryAt), url.slice(queryAt)];
  return { guest, request, response, path, query };
}

/** The guest has left, or half an answer is out: nothing more can be said, only the connection ended. */
function isGone({ response }: Exchange): boolean {
  if (response.headersSent) response.destroy();
  return response.destroyed;
}

/** As GitLab writes its refusals to its API's clients, and as plain words to all others. */
function answer({ path, response }: Exchange, refusal: Refusal): void {
  const { status, message, headers } = refusal;
  const isApi = path.startsWith("/api/");
  response.statusMessage = phraseOf(refusal);
  reply(
    response,
    status,
    { ...headers, "content-type": isApi ? "application/json" : "text/plain; charset=utf-8" },
    isApi ? JSON.stringify({ message }) : `${message}\n`,
  );
}
