import type { Socket } from "node:net";

/** Connections that have proved nothing, at one time: in all, and of one address (a host's machines may share one). */
const MOST = { total: 1_024, perAddress: 256 };

/**
 * Connections of which nobody knows yet whose they are. With too many, the oldest gives way: whoever means well needs a moment only,
 * and a new one must always come in.
 */
export interface UnauthenticatedConnections {
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
