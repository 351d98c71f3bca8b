import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { listenOn } from "../../../src/base/listen.ts";

/** Listens on loopback and returns the port. */
export async function listen(server: Server, port: number): Promise<number> {
  await listenOn(server, { port, host: "127.0.0.1" });
  return (server.address() as AddressInfo).port;
}

/** Stops listening and ends every connection. */
export async function shutDown(server: Server): Promise<void> {
  if (!server.listening) return;
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeAllConnections();
  await closed;
}
