import { createServer, type Server, type Socket } from "node:net";
import { systemCode } from "../../base/errors.ts";
import { splitHostPort } from "../../base/host-port.ts";
import { listenProblem, listenOn as startListening } from "../../base/listen.ts";
import { RelayError } from "../errors.ts";

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
