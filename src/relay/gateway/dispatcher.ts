/** What becomes of one request of a guest: a route of GitLab's, the proxy, or a refusal; audited, and bounded in time and size. */
import { type IncomingMessage, type ServerResponse, STATUS_CODES } from "node:http";
import type { Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { describeError, FireRunnerError } from "../../base/errors.ts";
import { isCachePath, s3Error } from "../../cache/request.ts";
import type { JobStore, MachineStore } from "../../store/store.ts";
import { EgressRefusal, statusPhrase } from "../egress/egress-policy.ts";
import type { EgressProxy } from "../egress/egress-proxy.ts";
import { Refusal } from "../errors.ts";
import type { Admission, ChunkedWork } from "./admission.ts";
import type { Audit } from "./audit.ts";
import { type Exchange, keepAllowed, reply } from "./exchange.ts";
import type { Guest } from "./guest.ts";
import type { Served } from "./routes.ts";
import { type Route, routeOf } from "./routes.ts";

/** An answer to one request too many waits so long, and its connection with it: to ask on costs the guest time and us none. */
const SLOW_DOWN_MS = 1_000;
/** For a refused tunnel's words to arrive; after that its connection is not kept for a guest that does not close it. */
const LINGER_MS = 2_000;

export type Handle = (exchange: Exchange, route: Route) => Promise<void>;

export interface DispatcherOptions {
  readonly store: JobStore & MachineStore;
  readonly audit: Audit;
  readonly proxy: EgressProxy;
  readonly handle: Handle;
  readonly admission: Admission;
  readonly pieces: ChunkedWork;
}

/**
 * Where every request of every guest comes in: signs of life, the rules of its route (`route-rules.ts`), its handler, and what becomes
 * of an error. Never throws.
 */
export interface Dispatcher {
  request(guest: Guest, request: IncomingMessage, response: ServerResponse): Promise<void>;
  connect(guest: Guest, request: IncomingMessage, socket: Socket, head: Buffer): Promise<void>;
}

/** What is asked for. A route is a place of the relay's own; the proxy is asked for the whole of an address. */
interface Place {
  readonly served: Served;
  readonly route: Route | undefined;
  readonly path: string;
  readonly query: string;
}

export function createDispatcher(options: DispatcherOptions): Dispatcher {
  const { store, audit, proxy, handle, admission, pieces } = options;
  const heard = new WeakSet<Guest>();

  async function greet(guest: Guest): Promise<void> {
    guest.noteHeard();
    await pieces.turn(guest);
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

  /** Lets it in, and serves it with what its rules leave of it. */
  async function serve(guest: Guest, request: IncomingMessage, response: ServerResponse, place: Place) {
    const { served, route, path } = place;
    const query = keepAllowed(request, served, place.query);
    const ticket = admission.admit(guest, served, response, () => hurry(response, path));
    const { hold, signal } = ticket;
    const exchange: Exchange = { guest, request, response, path, query, hold, signal };
    try {
      if (served === "elsewhere") await proxy.forward(exchange);
      else if (route) await handle(exchange, route);
      else {
        throw new Refusal(404, "404 Not Found - the relay serves one job's own requests and its repository");
      }
    } finally {
      ticket.done();
    }
  }

  /** What a guest is told of an error, and what is written down. Errors of ours are for the log: they may name paths. */
  function refusalOf(guest: Guest, error: unknown): Refusal {
    if (error instanceof Refusal) {
      if (error.rule !== undefined) audit.ruleBroken(guest, error.rule);
      const fields = { status: error.status, error: describeError(error) };
      guest.log.write("debug", `refused ${error.status}`, fields, "refused");
      return error;
    }
    const fields = { error: describeError(error) };
    guest.log.write("error", `failed ${error instanceof Error ? error.name : ""}`, fields, "request failed");
    const isOurs = error instanceof FireRunnerError;
    return new Refusal(isOurs ? 503 : 500, isOurs ? "try again" : "internal error", { cause: error });
  }

  return {
    async request(guest, request, response) {
      const place = placeOf(request);
      try {
        await greet(guest);
        await serve(guest, request, response, place);
      } catch (error) {
        const refusal = isGone(response) ? undefined : refusalOf(guest, error);
        if (refusal) await holdBack(guest, response, refusal);
        if (refusal) answer(response, place.path, refusal);
      }
    },
    async connect(guest, request, socket, head) {
      try {
        await greet(guest);
        keepAllowed(request, "elsewhere", "");
        const ticket = admission.admit(guest, "elsewhere", socket, () => socket.destroy());
        await proxy.tunnel(guest, request, socket, head).finally(ticket.done);
      } catch (error) {
        const refusal = refusalOf(guest, error);
        await holdBack(guest, socket, refusal);
        refuseTunnel(socket, refusal);
      }
    },
  };
}

function placeOf({ method, url = "" }: IncomingMessage): Place {
  const queryAt = url.indexOf("?");
  const [path, query] = queryAt < 0 ? [url, ""] : [url.slice(0, queryAt), url.slice(queryAt)];
  if (!path.startsWith("/")) return { served: "elsewhere", route: undefined, path, query };
  const route = routeOf(method ?? "", path);
  return { served: route?.kind ?? "nothing", route, path, query };
}

function phraseOf(refusal: Refusal): string {
  return refusal instanceof EgressRefusal
    ? statusPhrase(refusal)
    : (STATUS_CODES[refusal.status] ?? "Refused");
}

function refuseTunnel(socket: Socket, refusal: Refusal): void {
  const { status, message } = refusal;
  const text = `${message}\n`;
  setTimeout(() => socket.destroy(), LINGER_MS).unref();
  socket.end(
    `HTTP/1.1 ${status} ${phraseOf(refusal)}\r\nContent-Type: text/plain; charset=utf-8\r\n` +
      `Content-Length: ${Buffer.byteLength(text)}\r\nConnection: close\r\n\r\n${text}`,
  );
}

/** Holds a refusal back until its machine may have one more, so that a flood of them costs a bounded number each second. */
async function holdBack(guest: Guest, end: ServerResponse | Socket, { status }: Refusal): Promise<void> {
  const gone = new AbortController();
  end.once("close", () => gone.abort());
  const signal = AbortSignal.any([gone.signal, guest.closed.signal]);
  try {
    await guest.refusals.take(signal);
    if (status === 429) await delay(SLOW_DOWN_MS, undefined, { signal, ref: false });
  } catch {
    // Nobody waits for it any more.
  }
}

/** Its time is up: it is told so, or when half an answer is out, its connection ends. */
function hurry(response: ServerResponse, path: string): void {
  if (!isGone(response)) answer(response, path, new Refusal(503, "this took too long; try again"));
}

/** The guest has left, or half an answer is out: nothing more can be said, only the connection ended. */
function isGone(response: ServerResponse): boolean {
  if (response.headersSent && !response.writableFinished) response.destroy();
  return response.destroyed || response.headersSent;
}

function answer(response: ServerResponse, path: string, refusal: Refusal): void {
  response.statusMessage = phraseOf(refusal);
  const { type, body } = wordsOf(path, refusal);
  reply(response, refusal.status, { ...refusal.headers, "content-type": type }, body);
}

/** As GitLab writes its refusals to its API's clients, as registries and S3 servers do to theirs, and as plain words to all others. */
function wordsOf(path: string, { status, message }: Refusal): { type: string; body: string } {
  if (isCachePath(path)) return { type: "application/xml", body: s3Error(status, message) };
  const json = path.startsWith("/api/")
    ? { message }
    : path.startsWith("/v2/")
      ? { errors: [{ code: registryCode(status, path), message }] }
      : undefined;
  return json
    ? { type: "application/json", body: JSON.stringify(json) }
    : { type: "text/plain; charset=utf-8", body: `${message}\n` };
}

const registryCodes: Readonly<Record<number, string>> = {
  400: "NAME_INVALID",
  401: "UNAUTHORIZED",
  403: "DENIED",
  405: "UNSUPPORTED",
  429: "TOOMANYREQUESTS",
};

/** OCI's distribution specification has a list of them. */
function registryCode(status: number, path: string): string {
  if (status === 404) return path.includes("/blobs/") ? "BLOB_UNKNOWN" : "MANIFEST_UNKNOWN";
  return registryCodes[status] ?? "UNKNOWN";
}
