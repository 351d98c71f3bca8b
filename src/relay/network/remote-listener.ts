import type { Socket } from "node:net";
import { type SecureContext, TLSSocket } from "node:tls";
import type { SampledLog } from "../../base/log.ts";
import type { MachineStore } from "../../store/store.ts";
import type { RelaySettings } from "../config.ts";
import type { Guest } from "../guest.ts";
import { type Handshake, readHandshake } from "./handshake.ts";
import type { TrialLinks } from "./trial-links.ts";
import { createUnauthenticatedConnections } from "./unauthenticated-connections.ts";

export interface RemoteListenerOptions {
  readonly store: Pick<MachineStore, "checkLink">;
  /** Machines that try a host out, of which the store knows nothing. */
  readonly trials: Pick<TrialLinks, "check">;
  readonly settings: RelaySettings;
  /** What strangers do. Whoever reaches the port can cause it. */
  readonly strangersLog: SampledLog;
  /** The guest of a machine whose door is open to the network. */
  readonly guest: (machineId: string) => Guest | undefined;
  readonly serve: (guest: Guest, socket: Socket) => void;
  readonly onTooMany: (guest: Guest) => void;
  /** A machine came whose disk had been booted before. */
  readonly onAgain: (guest: Guest) => void;
}

const MOST_LISTENERS = 20;

/** What becomes of a connection from the network: TLS, a first line that proves whose it is, and then it is as one from a unix socket. */
export interface RemoteListener {
  receive(raw: Socket, context: SecureContext): Promise<void>;
  /** Ends all connections that have proved nothing yet. */
  clear(): void;
}

export function createRemoteListener(options: RemoteListenerOptions): RemoteListener {
  const { store, settings, strangersLog } = options;
  const strangers = createUnauthenticatedConnections({ onDisplaced: () => tellRefused("displaced") });

  function tellRefused(
    why: "too slow" | "no guest" | "unknown machine" | "wrong secret" | "displaced",
  ): void {
    strangersLog.write("warn", why, { why }, "a connection to the relay was refused");
  }

  async function receive(raw: Socket, secureContext: SecureContext): Promise<void> {
    const socket = new TLSSocket(raw, { isServer: true, secureContext, ...{ allowHalfOpen: true } });
    // TLS listens to its own socket; with a tunnel's two directions there are more listeners than Node expects of one.
    socket.setMaxListeners(MOST_LISTENERS);
    // What ends a connection is told by its end.
    socket.on("error", () => {});
    const known = strangers.add(socket);
    const preamble = await withinTime(socket);
    const guest = preamble && (await proved(preamble));
    known();
    if (guest === undefined || socket.destroyed || guest.closed.signal.aborted) return void socket.destroy();
    welcome(guest, socket, preamble?.isAgain ?? false);
  }

  async function withinTime(socket: TLSSocket): Promise<Handshake | undefined> {
    let isLate = false;
    const limit = setTimeout(() => {
      isLate = true;
      socket.destroy();
    }, settings.headerTimeout);
    const preamble = await readHandshake(socket);
    clearTimeout(limit);
    if (preamble === undefined) tellRefused(isLate ? "too slow" : "no guest");
    return preamble;
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

  return { receive, clear: strangers.clear };
}
