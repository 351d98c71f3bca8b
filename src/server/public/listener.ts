import { lookup } from "node:dns/promises";
import type { AddressInfo } from "node:net";
import type { FastifyInstance } from "fastify";
import { systemCode } from "../../base/errors.ts";
import { listenProblem } from "../../base/listen.ts";
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
    const code = systemCode(cause);
    if (isOptional && (code === "EADDRNOTAVAIL" || code === "EAFNOSUPPORT")) return undefined;
    const { why, hint } = listenProblem(code, port, "http.listen");
    throw failed(listener, why, hint, cause);
  }
  const bound = app.server.address() as AddressInfo;
  const name = bound.family === "IPv6" ? `[${bound.address}]` : bound.address;
  return `${isTls ? "https" : "http"}://${name}:${bound.port}`;
}

function failed(listener: Listener, why: string, hint: string, cause: unknown): HttpError {
  return new HttpError("door_listen", `listening on ${listener.text} failed: ${why}`, { cause, hint });
}
