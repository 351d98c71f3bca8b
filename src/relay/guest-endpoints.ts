import type { Socket } from "node:net";
import { createKeyedMutex } from "../base/keyed-mutex.ts";
import type { Guest } from "./guest.ts";
import { type GuestSocket, openGuestSocket } from "./guest-socket.ts";

interface Door {
  readonly guest: Guest;
  /** Undefined for a machine on another host: its connections come in by the network. */
  readonly socket: GuestSocket | undefined;
}

/** One for each machine that may speak: a unix socket, or with `undefined` the leave to come in by the network. */
export interface GuestEndpoints {
  open(machineId: string, path: string | undefined): Promise<void>;
  close(machineId: string): Promise<void>;
  guest(machineId: string): Guest | undefined;
  /** The guest of a door that is open to the network. */
  remoteGuest(machineId: string): Guest | undefined;
  /** How many are open. */
  count(): number;
  closeAll(): Promise<void>;
}

export interface GuestEndpointsOptions {
  readonly createGuest: (machineId: string, isRemote: boolean) => Guest;
  readonly serve: (guest: Guest, socket: Socket) => void;
  readonly onTooMany: (guest: Guest) => void;
  readonly maxConnections: number;
}

export function createGuestEndpoints(options: GuestEndpointsOptions): GuestEndpoints {
  const { maxConnections } = options;
  const doors = new Map<string, Door>();
  /** Opening and closing one machine's door never overlap. */
  const turns = createKeyedMutex();

  async function open(machineId: string, path: string | undefined): Promise<void> {
    const door = doors.get(machineId);
    if (door && door.socket?.path === path) return;
    await close(machineId);
    const guest = options.createGuest(machineId, path === undefined);
    const socket = path === undefined ? undefined : await openSocket(guest, path);
    doors.set(machineId, { guest, socket });
  }

  async function openSocket(guest: Guest, path: string): Promise<GuestSocket> {
    return await openGuestSocket({
      ...{ machineId: guest.machineId, path, maxConnections },
      onConnection: (socket) => options.serve(guest, socket),
      onTooMany: () => options.onTooMany(guest),
    });
  }

  async function close(machineId: string): Promise<void> {
    const door = doors.get(machineId);
    if (door === undefined) return;
    const { guest, socket: listening } = door;
    doors.delete(machineId);
    const closed = listening?.close();
    guest.closed.abort(new Error("the machine's door was closed"));
    for (const socket of guest.sockets) socket.destroy();
    guest.log.flush();
    await closed;
  }

  return {
    open: (machineId, path) => turns.run(machineId, () => open(machineId, path)),
    close: (machineId) => turns.run(machineId, () => close(machineId)),
    guest: (machineId) => doors.get(machineId)?.guest,
    remoteGuest(machineId) {
      const door = doors.get(machineId);
      return door && door.socket === undefined ? door.guest : undefined;
    },
    count: () => doors.size,
    async closeAll() {
      const all = [...doors.keys()];
      await Promise.all(all.map((machineId) => turns.run(machineId, () => close(machineId))));
    },
  };
}
