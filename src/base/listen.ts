import type { ListenOptions, Server } from "node:net";

/** Resolves when the server listens; rejects with the system's error. */
export function listenOn(server: Server, options: ListenOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(options, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

/** Why the system refuses an address, and what to do about it. */
export interface ListenProblem {
  readonly why: string;
  readonly hint: string;
}

/** `code` is the system's, `key` the setting that names the address. */
export function listenProblem(code: string | undefined, port: number, key: string): ListenProblem {
  switch (code) {
    case "EADDRINUSE":
      return {
        why: "another program listens there",
        hint: `Choose another port in ${key}, or end that program: “ss -ltnp 'sport = :${port}'” names it. ([::] covers 0.0.0.0 as well.)`,
      };
    case "EACCES":
      return {
        why: "this user may not",
        hint: `Choose a port above 1023 in ${key}, or give the service the right: AmbientCapabilities=CAP_NET_BIND_SERVICE in its systemd unit.`,
      };
    case "EADDRNOTAVAIL":
    case "EAFNOSUPPORT":
    case "ENOTFOUND":
      return {
        why: "this computer has no such address",
        hint: "“ip address” lists those it has; 0.0.0.0 stands for all of them.",
      };
    default:
      return {
        why: `the system refuses it (${code ?? "for an unknown reason"})`,
        hint: `Choose another address in ${key}.`,
      };
  }
}
