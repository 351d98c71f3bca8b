import { lookup } from "node:dns/promises";
import type { AddressInfo } from "node:net";
import type { FastifyInstance } from "fastify";
import { systemCode } from "../../base/errors.ts";
import { HttpError } from "../errors.ts";

/** Connections that the kernel holds until we take them: a burst of strangers must not make others wait for a retry. */
const BACKLOG = 4_096;

/** One entry of `http.listen`. */
export interface Listener {
  /** As the configuration has it. */
  readonly text: string;
  readonly isTls: boolean;
  readonly host: string;
  readonly port: number;
}

export function parseListener(text: string): Listener {
  const isTls = !/^http:\/\//i.test(text);
  const [, host = "", port = ""] = /^(?:https?:\/\/)?(.*):(\d+)$/i.exec(text) ?? [];
  return { text, isTls, host: host.replace(/^\[|\]$/g, ""), port: Number(port) };
}

/** A name such as `localhost` may stand for several addresses: a listener for each. */
export async function resolveListener(listener: Listener): Promise<Listener[]> {
  const found = await lookup(listener.host, { all: true }).catch((cause: unknown) => {
    throw failed(listener, "its name is not known here", "Name an address of this computer instead.", cause);
  });
  return [...new Set(found.map(({ address }) => address))].map((host) => ({ ...listener, host }));
}

/**
 * Returns where it listens, as an address people can use. Undefined when this computer has no such address and `isOptional`.
 * Throws HttpError `door_listen`.
 */
export async function bind(
  app: FastifyInstance,
  listener: Listener,
  isOptional: boolean,
): Promise<string | undefined> {
  const { host, port, isTls } = listener;
  try {
    await app.listen({ host, port, backlog: BACKLOG });
  } catch (cause) {
    const code = systemCode(cause) ?? "";
    if (isOptional && ["EADDRNOTAVAIL", "EAFNOSUPPORT"].includes(code)) return undefined;
    const [why, hint] = reasonFor(code, port);
    throw failed(listener, why, hint, cause);
  }
  const bound = app.server.address() as AddressInfo;
  const name = bound.family === "IPv6" ? `[${bound.address}]` : bound.address;
  return `${isTls ? "https" : "http"}://${name}:${bound.port}`;
}

/** Why the system refuses an address, by its error code, and what to do. */
export function reasonFor(code: string, port: number): [why: string, hint: string] {
  switch (code) {
    case "EADDRINUSE":
      return [
        "another program listens there",
        `Choose another port in http.listen, or end that program: “ss -ltnp 'sport = :${port}'” names it. ([::] covers 0.0.0.0 as well.)`,
      ];
    case "EACCES":
      return [
        "this user may not",
        "Choose a port above 1023, or give the service the right: AmbientCapabilities=CAP_NET_BIND_SERVICE in its systemd unit.",
      ];
    case "EADDRNOTAVAIL":
    case "EAFNOSUPPORT":
      return [
        "this computer has no such address",
        "“ip address” lists those it has; 0.0.0.0 stands for all of them.",
      ];
    default:
      return [`the system refuses it (${code || "for an unknown reason"})`, "Choose another address."];
  }
}

function failed(listener: Listener, why: string, hint: string, cause: unknown): HttpError {
  return new HttpError("door_listen", `listening on ${listener.text} failed: ${why}`, { cause, hint });
}
