import type { IncomingMessage, Server } from "node:http";
import type { Socket } from "node:net";
import type { Clock } from "../../base/clock.ts";
import { startDeadline } from "../../base/deadline.ts";

const EMPTY_POLL_MS = 10;
/** Connections of clients that have proved nothing. With more, the oldest gives way: a new one must always come in. */
const MOST_UNPROVEN = 1_000;
/** When the public server closes, a connection that has just been made may still send the request it was made for. */
const FRESH_MS = 1_000;

interface Connection {
  socket: Socket;
  readonly openedAt: number;
  /** Those that are being read or answered. */
  readonly requests: Set<IncomingMessage>;
  hasSpoken: boolean;
}

/** All connections of the public server, and who has to go when there are too many. */
export interface Connections {
  readonly open: number;
  /** `isTls`: connections of this server begin with a handshake. */
  watch(server: Server, isTls: boolean): void;
  /** A request begins; the function given back ends it. */
  begin(request: IncomingMessage): () => void;
  /** A request has come whole, and only waits for its answer. */
  isAnswering(socket: Socket): boolean;
  /** It has delivered something authentic: it is spared when there are too many. */
  prove(socket: Socket): void;
  /** Cuts what is idle now, and the rest as soon as it is answered, or after `limitMs`. */
  finish(limitMs: number): Promise<void>;
}

export interface ConnectionsOptions {
  readonly clock: Clock;
  readonly onDisplaced: () => void;
  readonly mostUnproven?: number;
}

export function createConnections(options: ConnectionsOptions): Connections {
  const register = createRegister(options);
  let closing: ((connection: Connection) => void) | undefined;

  function begin(request: IncomingMessage): () => void {
    const connection = register.of(request.socket);
    if (connection === undefined) return () => {};
    connection.hasSpoken = true;
    connection.requests.add(request);
    return () => {
      if (connection.requests.delete(request)) closing?.(connection);
    };
  }

  return {
    get open() {
      return register.all.size;
    },
    watch(server, isTls) {
      server.on("connection", (socket: Socket) => register.accept(socket, isTls));
      if (isTls) server.on("secureConnection", register.adopt);
    },
    begin,
    isAnswering: (socket) => [...(register.of(socket)?.requests ?? [])].some(({ complete }) => complete),
    prove: register.prove,
    async finish(limitMs) {
      // The answer's last bytes are still on their way when its request ends.
      closing = ({ requests, socket }) => {
        if (requests.size === 0) socket.destroySoon();
      };
      await finishAll(register.all, options.clock, limitMs);
    },
  };
}

/** Who is connected, and who of them has proved nothing. */
function createRegister({ clock, onDisplaced, mostUnproven = MOST_UNPROVEN }: ConnectionsOptions) {
  const all = new Set<Connection>();
  /** In the order in which they came. */
  const unproven = new Set<Connection>();
  const byPeer = new Map<string, Connection>();
  const bySocket = new WeakMap<Socket, Connection>();

  function accept(socket: Socket, isTls: boolean): void {
    const connection = {
      socket,
      openedAt: clock.now(),
      requests: new Set<IncomingMessage>(),
      hasSpoken: false,
    };
    const peer = peerOf(socket);
    all.add(connection);
    unproven.add(connection);
    bySocket.set(socket, connection);
    if (isTls) byPeer.set(peer, connection);
    socket.once("close", () => {
      all.delete(connection);
      unproven.delete(connection);
      if (byPeer.get(peer) === connection) byPeer.delete(peer);
    });
    if (unproven.size > mostUnproven) displace();
  }

  function displace(): void {
    const [oldest] = unproven;
    if (oldest === undefined) return;
    unproven.delete(oldest);
    oldest.socket.destroy();
    onDisplaced();
  }

  return {
    all,
    accept,
    of: (socket: Socket) => bySocket.get(socket),
    /** After the handshake the same connection has another socket object; both know who is at the other end. */
    adopt(socket: Socket): void {
      const connection = byPeer.get(peerOf(socket));
      if (connection === undefined) return;
      connection.socket = socket;
      bySocket.set(socket, connection);
    },
    prove(socket: Socket): void {
      const connection = bySocket.get(socket);
      if (connection) unproven.delete(connection);
    },
  };
}

async function finishAll(all: ReadonlySet<Connection>, clock: Clock, limitMs: number): Promise<void> {
  const cut = (isToGo: (connection: Connection) => boolean) => {
    for (const connection of all) if (isToGo(connection)) connection.socket.destroy();
  };
  cut(
    ({ requests, hasSpoken, openedAt }) =>
      requests.size === 0 && (hasSpoken || clock.now() - openedAt >= FRESH_MS),
  );
  await emptied(clock, all, Math.min(FRESH_MS, limitMs));
  cut(({ requests }) => requests.size === 0);
  await emptied(clock, all, limitMs - FRESH_MS);
  cut(() => true);
}

async function emptied(clock: Clock, all: ReadonlySet<Connection>, withinMs: number): Promise<void> {
  const patience = startDeadline(clock, Math.max(0, withinMs));
  while (all.size > 0 && !patience.isOver()) await clock.sleep(EMPTY_POLL_MS);
  patience.clear();
}

function peerOf(socket: Socket): string {
  const { remoteAddress, remotePort, localAddress, localPort } = socket;
  return `${remoteAddress} ${remotePort} ${localAddress} ${localPort}`;
}
