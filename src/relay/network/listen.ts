import { createServer, type Server, type Socket } from "node:net";
import { systemCode } from "../../base/errors.ts";
import { splitHostPort } from "../../base/host-port.ts";
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
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen({ host, port, backlog: BACKLOG }, () => {
        server.off("error", reject);
        resolve();
      });
    });
  } catch (cause) {
    const [why, hint] = reasonFor(systemCode(cause) ?? "", port);
    throw new RelayError("relay_listen", `the relay cannot listen on ${text}: ${why}`, { cause, hint });
  }
  return server;
}

function reasonFor(code: string, port: number): [why: string, hint: string] {
  switch (code) {
    case "EADDRINUSE":
      return [
        "another program listens there",
        `“ss -ltnp 'sport = :${port}'” names it; or choose another port`,
      ];
    case "EACCES":
      return ["this user may not", "choose a port above 1023 in relay.listen"];
    case "EADDRNOTAVAIL":
    case "ENOTFOUND":
      return [
        "this computer has no such address",
        "“ip address” lists those it has; 0.0.0.0 stands for all of them",
      ];
    default:
      return [
        `the system refuses it (${code || "for an unknown reason"})`,
        "choose another address in relay.listen",
      ];
  }
}
