import { randomBytes } from "node:crypto";
import { createServer, type Server, type Socket } from "node:net";
import { type SecureContext, TLSSocket } from "node:tls";
import type { Clock } from "../../base/clock.ts";
import { systemCode } from "../../base/errors.ts";
import { splitHostPort } from "../../base/host-port.ts";
import { isMachineId } from "../../base/ids.ts";
import { listenProblem, listenOn as startListening } from "../../base/listen.ts";
import type { SampledLog } from "../../base/log.ts";
import { isLinkSecret, linkHashOf, newLinkSecret, type Secret } from "../../base/secret.ts";
import type { MachineStore } from "../../store/store.ts";
import type { RelaySettings } from "../config.ts";
import { RelayError } from "../errors.ts";
import type { Guest } from "../gateway/guest.ts";

export interface RemoteListenerOptions {
  readonly store: Pick<MachineStore, "checkLink">;
  /** Machines that try a host out, of which the store knows nothing. */
  readonly trials: Pick<TrialLinks, "check">;
  readonly settings: RelaySettings;
  /** What unauthenticated do. Whoever reaches the port can cause it. */
  readonly unauthenticatedLog: SampledLog;
  /** The guest of a machine whose endpoint is open to the network. */
  readonly guest: (machineId: string) => Guest | undefined;
  readonly serve: (guest: Guest, socket: Socket) => void;
  readonly onTooMany: (guest: Guest) => void;
  /** A machine came whose disk had been booted before. */
  readonly onAgain: (guest: Guest) => void;
}

const MOST_LISTENERS = 20;

/** What becomes of a connection from the network: TLS, a first line that proves whose it is, and then it is as one from a unix socket. */
interface RemoteListener {
  receive(raw: Socket, context: SecureContext): Promise<void>;
  /** Ends all connections that have proved nothing yet. */
  clear(): void;
}

export function createRemoteListener(options: RemoteListenerOptions): RemoteListener {
  const { store, settings, unauthenticatedLog } = options;
  const unauthenticated = createUnauthenticatedConnections({ onDisplaced: () => tellRefused("displaced") });

  function tellRefused(
    why: "too slow" | "no guest" | "unknown machine" | "wrong secret" | "displaced",
  ): void {
    unauthenticatedLog.write("warn", why, { why }, "a connection to the relay was refused");
  }

  async function receive(raw: Socket, secureContext: SecureContext): Promise<void> {
    const socket = new TLSSocket(raw, { isServer: true, secureContext, ...{ allowHalfOpen: true } });
    // TLS listens to its own socket; with a tunnel's two directions there are more listeners than Node expects of one.
    socket.setMaxListeners(MOST_LISTENERS);
    // What ends a connection is told by its end.
    socket.on("error", () => {});
    const known = unauthenticated.add(socket);
    const handshake = await withinTime(socket);
    const guest = handshake && (await proved(handshake));
    known();
    if (guest === undefined || socket.destroyed || guest.closed.signal.aborted) return void socket.destroy();
    welcome(guest, socket, handshake?.isAgain ?? false);
  }

  async function withinTime(socket: TLSSocket): Promise<Handshake | undefined> {
    let isLate = false;
    const limit = setTimeout(() => {
      isLate = true;
      socket.destroy();
    }, settings.headerTimeout);
    const handshake = await readHandshake(socket);
    clearTimeout(limit);
    if (handshake === undefined) tellRefused(isLate ? "too slow" : "no guest");
    return handshake;
  }

  /** Nothing is looked up for machines that nobody expects. */
  async function proved({ machineId, secret }: Handshake): Promise<Guest | undefined> {
    const guest = options.guest(machineId);
    if (guest && (options.trials.check(machineId, secret) || (await store.checkLink(machineId, secret))))
      return guest;
    tellRefused(guest ? "wrong secret" : "unknown machine");
    return undefined;
  }

  function welcome(guest: Guest, socket: Socket, isAgain: boolean): void {
    if (isAgain) {
      options.onAgain(guest);
      // Its end is what the guest waits for.
      socket.end();
      socket.destroySoon();
      return;
    }
    if (guest.sockets.size < settings.connections) {
      options.serve(guest, socket);
      return;
    }
    options.onTooMany(guest);
    socket.destroy();
  }

  return { receive, clear: unauthenticated.clear };
}

/** The first line of a connection from the network: who calls, and by what it is proved. */
interface Handshake {
  readonly machineId: string;
  readonly secret: string;
  /** The machine's disk has been booted before: its host has started it again. */
  readonly isAgain: boolean;
}

const LONGEST_BYTES = 128;
const line = /^FIRERUNNER\/1 (fr-[a-z2-7]{8}) ([0-9a-f]{64})( again)?$/;

function parseHandshake(text: string): Handshake | undefined {
  const [, machineId = "", secret = "", again] = line.exec(text) ?? [];
  return isMachineId(machineId) ? { machineId, secret, isAgain: again !== undefined } : undefined;
}

/** Takes the first line, and leaves what follows it in the socket. Undefined when the connection ends or is no guest's. */
function readHandshake(socket: Socket): Promise<Handshake | undefined> {
  let seen = Buffer.alloc(0);
  return new Promise((resolve) => {
    function finish(text: string): void {
      socket.off("readable", read).off("close", end).off("end", end);
      resolve(parseHandshake(text));
    }
    const end = () => finish("");
    const read = () => {
      const chunk = socket.read() as Buffer | null;
      seen = chunk ? Buffer.concat([seen, chunk]) : seen;
      const lineEnd = lineEndOf(seen);
      if (lineEnd === undefined) return;
      if (lineEnd + 1 < seen.length) socket.unshift(seen.subarray(lineEnd + 1));
      finish(seen.toString("latin1", 0, lineEnd));
    };
    socket.on("readable", read).once("close", end).once("end", end);
  });
}

/** Undefined while it may still come. */
function lineEndOf(seen: Buffer): number | undefined {
  const found = seen.indexOf("\n");
  return found < 0 && seen.length <= LONGEST_BYTES ? undefined : Math.max(0, found);
}

/** Connections that have proved nothing, at one time: in all, and of one address (a host's machines may share one). */
const MOST = { total: 1_024, perAddress: 256 };

/**
 * Connections of which nobody knows yet whose they are. With too many, the oldest gives way: whoever means well needs a moment only,
 * and a new one must always come in.
 */
interface UnauthenticatedConnections {
  /** Until the function given back is called, or its connection ends. */
  add(socket: Socket): () => void;
  /** Ends them all. */
  clear(): void;
}

export function createUnauthenticatedConnections({
  onDisplaced,
  most = MOST,
}: {
  onDisplaced: () => void;
  most?: { readonly total: number; readonly perAddress: number };
}): UnauthenticatedConnections {
  /** With their addresses, in the order in which they came. */
  const all = new Map<Socket, string>();
  const byAddress = new Map<string, Set<Socket>>();

  function remove(socket: Socket): void {
    const address = all.get(socket) ?? "";
    const siblings = byAddress.get(address);
    all.delete(socket);
    siblings?.delete(socket);
    if (siblings?.size === 0) byAddress.delete(address);
  }

  function displace(sockets: Iterable<Socket>): void {
    const [oldest] = sockets;
    if (oldest === undefined) return;
    remove(oldest);
    oldest.destroy();
    onDisplaced();
  }

  return {
    add(socket) {
      const address = socket.remoteAddress ?? "";
      const siblings = byAddress.get(address);
      if (siblings && siblings.size >= most.perAddress) displace(siblings);
      else if (all.size >= most.total) displace(all.keys());
      byAddress.set(address, (byAddress.get(address) ?? new Set()).add(socket));
      all.set(socket, address);
      const done = () => {
        socket.off("close", done);
        remove(socket);
      };
      socket.once("close", done);
      return done;
    },
    clear() {
      for (const socket of all.keys()) socket.destroy();
    },
  };
}

/** Connections that the kernel holds until we take them. */
const BACKLOG = 4_096;
/** With the kernel's ten probes, a second apart, a guest that has vanished is noticed after 25 s. */
const KEEP_ALIVE_AFTER_MS = 15_000;

/** Listens on one `host:port`. Throws RelayError `relay_listen`. */
export async function listenOn(text: string, onConnection: (socket: Socket) => void): Promise<Server> {
  const server = createServer(
    // A guest that has sent everything still listens for the answer.
    { allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_AFTER_MS },
    onConnection,
  );
  const { host, port } = splitHostPort(text);
  try {
    await startListening(server, { host, port, backlog: BACKLOG });
  } catch (cause) {
    const { why, hint } = listenProblem(systemCode(cause), port, "relay.listen");
    throw new RelayError("relay_listen", `the relay cannot listen on ${text}: ${why}`, { cause, hint });
  }
  return server;
}

interface TrialLink {
  readonly secretHash: string;
  firstWordAt: number | undefined;
}

/** The secrets of machines that only try a host out. The store knows nothing of them: they have no job, and die with the process. */
interface TrialLinks {
  issue(machineId: string): Secret;
  /** In a time that does not depend on where a wrong secret differs. The first right one is the machine's first word. */
  check(machineId: string, secret: string): boolean;
  /** When the machine first proved itself (epoch ms). */
  firstWordAt(machineId: string): number | undefined;
  forget(machineId: string): void;
}

export function createTrialLinks(
  clock: Clock,
  random: (size: number) => Uint8Array = randomBytes,
): TrialLinks {
  const links = new Map<string, TrialLink>();
  return {
    issue(machineId) {
      const secret = newLinkSecret(random);
      links.set(machineId, { secretHash: linkHashOf(secret.reveal()), firstWordAt: undefined });
      return secret;
    },
    check(machineId, secret) {
      const link = links.get(machineId);
      const isRight = isLinkSecret(secret, link?.secretHash);
      if (isRight && link) link.firstWordAt ??= clock.now();
      return isRight;
    },
    firstWordAt: (machineId) => links.get(machineId)?.firstWordAt,
    forget: (machineId) => void links.delete(machineId),
  };
}
