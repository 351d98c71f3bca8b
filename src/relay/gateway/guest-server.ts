import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { RelaySettings } from "../config.ts";
import type { ChunkedWork } from "./admission.ts";
import { createFairQueue } from "./admission.ts";
import type { Guest } from "./guest.ts";

const MAX_HEADER_BYTES = 16 * 1024;
/** Headers of one request. Node leaves out what is beyond its limit, so one more than we take is asked for. */
const MOST_HEADERS = 100;
const MOST_LISTENERS = 20;
/** Between two requests of one connection. */
const KEEP_ALIVE_MS = 75_000;
/** After an answer before the end of the body: closing at once would take the answer away from a guest that still sends. */
const LINGER_MS = 2_000;
/** So much of a body that nobody wants is read meanwhile: a simple client looks for its answer only when it has sent all. */
const MOST_UNWANTED_BYTES = 256 * 1024;

interface GuestServerOptions {
  readonly settings: RelaySettings;
  readonly pieces: ChunkedWork;
  /** Must not throw. */
  readonly onRequest: (guest: Guest, request: IncomingMessage, response: ServerResponse) => void;
  /** Must not throw. */
  readonly onConnect: (guest: Guest, request: IncomingMessage, socket: Socket, head: Buffer) => void;
  /** A connection was ended because more had been sent ahead on it than may wait. */
  readonly onSentAhead: (guest: Guest) => void;
  /** A connection waits, because there were too many in too short a time. */
  readonly onTooMany: (guest: Guest) => void;
}

/** One HTTP server for all guests: who is calling is a matter of which socket the connection came from. */
interface GuestServer {
  serve(guest: Guest, socket: Socket): void;
}

export function createGuestServer(options: GuestServerOptions): GuestServer {
  const { settings, pieces, onRequest, onConnect, onSentAhead } = options;
  const guests = new WeakMap<Socket, Guest>();
  const headerTimers = new WeakMap<Socket, NodeJS.Timeout>();
  const server: Server = createServer({ maxHeaderSize: MAX_HEADER_BYTES, keepAliveTimeout: KEEP_ALIVE_MS });
  server.timeout = settings.idleTimeout;
  server.maxHeadersCount = MOST_HEADERS + 1;
  const arrive = createArrivals({
    ...{ pieces, onTooMany: options.onTooMany },
    begin: (socket) => server.emit("connection", socket),
  });
  const fairQueue = createFairQueue({ serve: begin, onTooMany: onSentAhead });

  /** The server never listens itself, so node does not watch its header timeouts: a slow header is our own to end. */
  function expectHeader(socket: Socket, withinMs: number): void {
    clearTimeout(headerTimers.get(socket));
    const timer = setTimeout(() => socket.destroy(), withinMs);
    timer.unref();
    headerTimers.set(socket, timer);
  }

  function begin(guest: Guest, request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request;
    // Whoever has a part in an answer listens for its end, and a pipeline does so several times.
    response.setMaxListeners(MOST_LISTENERS);
    clearTimeout(headerTimers.get(socket));
    const stopWatching = watchBody(request, settings.bodyTimeout);
    response.once("close", () => {
      stopWatching();
      if (!socket.destroyed) expectHeader(socket, KEEP_ALIVE_MS + settings.headerTimeout);
    });
    response.once("finish", () => {
      if (!request.complete) linger(request);
    });
    onRequest(guest, request, response);
  }

  server.on("request", (request, response) => {
    const guest = guests.get(request.socket);
    if (guest === undefined) return void request.socket.destroy();
    if (hasTooManyHeaders(request)) return refuse(request.socket, TOO_LARGE);
    fairQueue.arrive(guest, request, response);
  });

  server.on("connect", (request, stream, head) => {
    const socket = stream as Socket;
    const guest = guests.get(socket);
    // A tunnel behind a request that is still served would mix its bytes with the answer's.
    if (guest === undefined || fairQueue.isBusy(socket)) return void socket.destroy();
    clearTimeout(headerTimers.get(socket));
    socket.on("error", () => {});
    if (hasTooManyHeaders(request)) return refuse(socket, TOO_LARGE);
    onConnect(guest, request, socket, head);
  });

  server.on("clientError", (error: NodeJS.ErrnoException, stream) => {
    refuse(stream, error.code === "HPE_HEADER_OVERFLOW" ? TOO_LARGE : "400 Bad Request");
  });

  return {
    serve(guest, socket) {
      guests.set(socket, guest);
      guest.sockets.add(socket);
      expectHeader(socket, settings.headerTimeout);
      socket.once("close", () => {
        clearTimeout(headerTimers.get(socket));
        guest.sockets.delete(socket);
      });
      void arrive(guest, socket);
    },
  };
}

const TOO_LARGE = "431 Request Header Fields Too Large";

/** Lets a client that still sends see its answer, for a while. */
function linger(request: IncomingMessage): void {
  const { socket } = request;
  setTimeout(() => request.complete || socket.destroy(), LINGER_MS).unref();
  const isSmall =
    Number(request.headers["content-length"] ?? Number.POSITIVE_INFINITY) <= MOST_UNWANTED_BYTES;
  // Node has just begun to read the rest in order to throw it away.
  if (!isSmall) setImmediate(() => request.complete || socket.pause());
}

/** Answers what never becomes a request of ours, and ends its connection. */
function refuse(stream: Duplex, status: string): void {
  if (stream.writable) stream.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
  setTimeout(() => stream.destroy(), LINGER_MS).unref();
}

function hasTooManyHeaders({ rawHeaders }: IncomingMessage): boolean {
  return rawHeaders.length / 2 > MOST_HEADERS;
}

/** Ends a connection whose body has stopped in the middle, unless it is we who make the guest wait. */
function watchBody(request: IncomingMessage, timeoutMs: number): () => void {
  const { socket } = request;
  let seen = socket.bytesRead;
  const timer = setInterval(() => {
    if (request.complete) return clearInterval(timer);
    const isHeldBack = request.readableLength >= request.readableHighWaterMark;
    if (socket.bytesRead === seen && !isHeldBack) socket.destroy();
    seen = socket.bytesRead;
  }, timeoutMs);
  timer.unref();
  return () => clearInterval(timer);
}

interface ArrivalsOptions {
  readonly pieces: ChunkedWork;
  /** Looks into the connection. */
  readonly begin: (socket: Socket) => void;
  /** One waits, because there were too many in too short a time. */
  readonly onTooMany: (guest: Guest) => void;
}

/**
 * New connections, each not looked into before its turn and before its machine may have one more. One that were hung up on would be there
 * again at once, and cost more than one that waits.
 */
function createArrivals({ pieces, begin, onTooMany }: ArrivalsOptions) {
  return async (guest: Guest, socket: Socket): Promise<void> => {
    const gone = new AbortController();
    // Every connection ends by it, and an abort without a reason makes an error with its stack.
    socket.once("close", () => gone.abort("closed")).on("error", ignore);
    if (!guest.arrivals.tryTake()) {
      onTooMany(guest);
      await guest.arrivals.take(gone.signal).catch(ignore);
    }
    await pieces.turn(guest);
    socket.off("error", ignore);
    if (!socket.destroyed) begin(socket);
  };
}

function ignore(): void {}
