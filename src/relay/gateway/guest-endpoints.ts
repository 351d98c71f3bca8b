import { chmod, lstat, unlink } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { dirname } from "node:path";
import { systemCode } from "../../base/errors.ts";
import { createKeyedMutex } from "../../base/keyed-mutex.ts";
import { listenOn } from "../../base/listen.ts";
import { makeDirectory } from "../../base/trusted-file.ts";
import { RelayError } from "../errors.ts";
import type { Guest } from "./guest.ts";

interface Endpoint {
  readonly guest: Guest;
  /** Undefined for a machine on another host: its connections come in by the network. */
  readonly socket: GuestSocket | undefined;
}

/** One for each machine that may speak: a unix socket, or with `undefined` the leave to come in by the network. */
export interface GuestEndpoints {
  open(machineId: string, path: string | undefined): Promise<void>;
  close(machineId: string): Promise<void>;
  guest(machineId: string): Guest | undefined;
  /** The guest of a endpoint that is open to the network. */
  remoteGuest(machineId: string): Guest | undefined;
  /** How many are open. */
  count(): number;
  closeAll(): Promise<void>;
}

interface GuestEndpointsOptions {
  readonly createGuest: (machineId: string, isRemote: boolean) => Guest;
  readonly serve: (guest: Guest, socket: Socket) => void;
  readonly onTooMany: (guest: Guest) => void;
  readonly maxConnections: number;
}

export function createGuestEndpoints(options: GuestEndpointsOptions): GuestEndpoints {
  const { maxConnections } = options;
  const endpoints = new Map<string, Endpoint>();
  /** Opening and closing one machine's endpoint never overlap. */
  const byMachine = createKeyedMutex();

  async function open(machineId: string, path: string | undefined): Promise<void> {
    const endpoint = endpoints.get(machineId);
    if (endpoint && endpoint.socket?.path === path) return;
    await close(machineId);
    const guest = options.createGuest(machineId, path === undefined);
    const socket = path === undefined ? undefined : await openSocket(guest, path);
    endpoints.set(machineId, { guest, socket });
  }

  async function openSocket(guest: Guest, path: string): Promise<GuestSocket> {
    return await openGuestSocket({
      ...{ machineId: guest.machineId, path, maxConnections },
      onConnection: (socket) => options.serve(guest, socket),
      onTooMany: () => options.onTooMany(guest),
    });
  }

  async function close(machineId: string): Promise<void> {
    const endpoint = endpoints.get(machineId);
    if (endpoint === undefined) return;
    const { guest, socket: listening } = endpoint;
    endpoints.delete(machineId);
    const closed = listening?.close();
    guest.closed.abort(new Error("the machine's endpoint was closed"));
    for (const socket of guest.sockets) socket.destroy();
    guest.log.flush();
    await closed;
  }

  return {
    open: (machineId, path) => byMachine.run(machineId, () => open(machineId, path)),
    close: (machineId) => byMachine.run(machineId, () => close(machineId)),
    guest: (machineId) => endpoints.get(machineId)?.guest,
    remoteGuest(machineId) {
      const endpoint = endpoints.get(machineId);
      return endpoint && endpoint.socket === undefined ? endpoint.guest : undefined;
    },
    count: () => endpoints.size,
    async closeAll() {
      const all = [...endpoints.keys()];
      await Promise.all(all.map((machineId) => byMachine.run(machineId, () => close(machineId))));
    },
  };
}

/** `sun_path` of Linux has 108 bytes, one of them for the end. */
const MAX_PATH_BYTES = 107;

interface GuestSocketOptions {
  readonly machineId: string;
  readonly path: string;
  readonly maxConnections: number;
  readonly onConnection: (socket: Socket) => void;
  readonly onTooMany: () => void;
}

/** The unix socket of one machine. */
interface GuestSocket {
  readonly path: string;
  /** Listens no more at once; resolves when the last connection has ended and the file is gone. */
  close(): Promise<void>;
}

/** Throws RelayError `relay_socket` or `relay_socket_path`. */
async function openGuestSocket(options: GuestSocketOptions): Promise<GuestSocket> {
  const { machineId, path } = options;
  const bytes = Buffer.byteLength(path);
  if (bytes > MAX_PATH_BYTES) {
    throw new RelayError(
      "relay_socket_path",
      `opening the relay socket of ${machineId}: its path has ${bytes} bytes, a socket's may have ${MAX_PATH_BYTES}: ${path}`,
      { hint: "choose a shorter state directory" },
    );
  }
  const server = createServer({ allowHalfOpen: true, noDelay: true }, options.onConnection);
  server.maxConnections = options.maxConnections;
  server.on("drop", options.onTooMany);
  try {
    await makeWay(path);
    await listenOn(server, { path: path });
    // The machine's process runs as another user; the directory lets only that user in.
    await chmod(path, 0o666);
  } catch (cause) {
    server.close();
    throw cannotOpen(machineId, path, cause);
  }
  return {
    path,
    async close() {
      await new Promise<void>((resolve) => server.close(() => resolve()));
      // Closing has removed it, unless another lies in its place.
      await unlink(path).catch((error: unknown) => {
        if (systemCode(error) !== "ENOENT") throw error;
      });
    },
  };
}

/** Makes the directory, and removes the socket of an earlier process; anything else in its place is left alone. */
async function makeWay(path: string): Promise<void> {
  await makeDirectory(dirname(path), 0o700);
  const there = await lstat(path).catch((error: unknown) => {
    if (systemCode(error) === "ENOENT") return undefined;
    throw error;
  });
  if (there === undefined) return;
  if (!there.isSocket()) throw new Error("something that is no socket lies in its place");
  await unlink(path);
}

function cannotOpen(machineId: string, path: string, cause: unknown): RelayError {
  return new RelayError("relay_socket", `opening the relay socket of ${machineId} at ${path} failed`, {
    cause,
    hint: "check the rights and the free space of the state directory",
  });
}
