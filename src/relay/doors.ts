import { chmod, lstat, mkdir, rm } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { dirname } from "node:path";
import { systemCode } from "../base/errors.ts";
import { RelayError } from "./errors.ts";
import type { Guest } from "./guest.ts";

/** `sun_path` of Linux has 108 bytes, one of them for the end. */
const MAX_PATH_BYTES = 107;

interface Door {
  readonly guest: Guest;
  readonly path: string;
  readonly server: Server;
}

/** The unix sockets, one for each machine. */
export interface Doors {
  open(machineId: string, path: string): Promise<void>;
  close(machineId: string): Promise<void>;
  guest(machineId: string): Guest | undefined;
  closeAll(): Promise<void>;
}

export interface DoorsOptions {
  readonly createGuest: (machineId: string) => Guest;
  readonly serve: (guest: Guest, socket: Socket) => void;
  readonly onTooMany: (guest: Guest) => void;
  readonly maxConnections: number;
}

export function createDoors(options: DoorsOptions): Doors {
  const doors = new Map<string, Door>();
  /** Opening and closing one machine's door never overlap. */
  const turns = new Map<string, Promise<void>>();

  async function inTurn(machineId: string, work: () => Promise<void>): Promise<void> {
    const turn = (turns.get(machineId) ?? Promise.resolve()).then(work, work);
    turns.set(machineId, turn);
    try {
      await turn;
    } finally {
      if (turns.get(machineId) === turn) turns.delete(machineId);
    }
  }

  async function open(machineId: string, path: string): Promise<void> {
    if (doors.get(machineId)?.path === path) return;
    await close(machineId);
    const bytes = Buffer.byteLength(path);
    if (bytes > MAX_PATH_BYTES) {
      throw new RelayError(
        "relay_socket_path",
        `opening the relay socket of ${machineId}: its path has ${bytes} bytes, a socket's may have ${MAX_PATH_BYTES}: ${path}`,
        { hint: "choose a shorter state directory" },
      );
    }
    const guest = options.createGuest(machineId);
    const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) =>
      options.serve(guest, socket),
    );
    server.maxConnections = options.maxConnections;
    server.on("drop", () => options.onTooMany(guest));
    try {
      await makeWay(path);
      await listen(server, path);
      // The machine's process runs as another user; the directory lets only that user in.
      await chmod(path, 0o666);
    } catch (cause) {
      server.close();
      throw cannotOpen(machineId, path, cause);
    }
    doors.set(machineId, { guest, path, server });
  }

  async function close(machineId: string): Promise<void> {
    const door = doors.get(machineId);
    if (door === undefined) return;
    doors.delete(machineId);
    const closed = new Promise<void>((resolve) => door.server.close(() => resolve()));
    door.guest.closed.abort(new Error("the machine's door was closed"));
    for (const socket of door.guest.sockets) socket.destroy();
    await closed;
    await rm(door.path, { force: true });
  }

  return {
    open: (machineId, path) => inTurn(machineId, () => open(machineId, path)),
    close: (machineId) => inTurn(machineId, () => close(machineId)),
    guest: (machineId) => doors.get(machineId)?.guest,
    async closeAll() {
      const all = [...doors.keys()];
      await Promise.all(all.map((machineId) => inTurn(machineId, () => close(machineId))));
    },
  };
}

/** Makes the directory, and removes the socket of an earlier process; anything else in its place is left alone. */
async function makeWay(path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const there = await lstat(path).catch((error: unknown) => {
    if (systemCode(error) === "ENOENT") return undefined;
    throw error;
  });
  if (there === undefined) return;
  if (!there.isSocket()) throw new Error("something that is no socket lies in its place");
  await rm(path);
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

function cannotOpen(machineId: string, path: string, cause: unknown): RelayError {
  return new RelayError("relay_socket", `opening the relay socket of ${machineId} at ${path} failed`, {
    cause,
    hint: "check the rights and the free space of the state directory",
  });
}
