/** The HTTP proxy of guests: tunnels (CONNECT) and plain requests to where the policy allows, each held until its first bytes are checked. */
import type { IncomingMessage } from "node:http";
import { isIP, type Socket } from "node:net";
import type { Duplex, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { Dispatcher } from "undici";
import type { RelaySettings } from "../config.ts";
import { Refusal } from "../errors.ts";
import type { Audit } from "../gateway/audit.ts";
import {
  type Exchange,
  headersFromGuest,
  type Passage,
  passThrough,
  streamAnswer,
} from "../gateway/exchange.ts";
import type { Guest } from "../gateway/guest.ts";
import type { DestinedRequest, Dialer } from "./egress-dialer.ts";
import type { EgressGate } from "./egress-gate.ts";
import { createNameCheck, type NameRule, UNRECOGNIZED_NAME_ALERT, WrongName } from "./egress-name-check.ts";
import { parseTarget, type Target } from "./egress-policy.ts";

const LISTENERS_OF_TUNNEL = 30;

interface EgressProxyOptions {
  readonly gate: EgressGate;
  readonly dialer: Dialer;
  readonly audit: Audit;
  readonly settings: RelaySettings;
  readonly gitlabOrigin: string;
}

export interface EgressProxy {
  /** `CONNECT host:port`. Resolves when the tunnel has ended; `head` is what the guest sent after the header already. */
  tunnel(guest: Guest, request: IncomingMessage, socket: Socket, head: Buffer): Promise<void>;
  /** `GET http://host/path`. */
  forward(exchange: Exchange): Promise<void>;
}

/** The guest's way to other hosts, by the rules of its pool: a name is checked first, then every address it has. */
export function createEgressProxy(options: EgressProxyOptions): EgressProxy {
  const { gate, dialer, audit, settings } = options;
  const gitlabUrl = new URL(options.gitlabOrigin);

  async function tunnel(guest: Guest, request: IncomingMessage, socket: Socket, head: Buffer) {
    const target = parseTarget(request.url ?? "");
    if (target === undefined) throw new Refusal(400, "CONNECT needs a host and a port");
    const { destination, nameRule } = await gate.permit(guest, target);
    if (nameRule === "required" && gitlabUrl.protocol === "http:")
      throw gate.closed(guest, target, "GitLab is served without TLS here: ask for http:// without CONNECT");
    const signal = signalOfEnd(socket);
    const upstream = await gate.audited(guest, destination, () => dialer.connect(destination, signal));
    socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
    if (head.length > 0) socket.unshift(head);
    const check = checkFor(target, nameRule);
    const problem = await join({ guest: socket, upstream, check }, settings.tunnelIdleTimeout);
    if (problem instanceof WrongName) audit.refused(guest, target, problem.message);
  }

  function checkFor({ host }: Target, rule: NameRule): Transform | undefined {
    if (rule === "free") return undefined;
    return createNameCheck({ host, rule, isAddress: isIP(host) !== 0, timeoutMs: settings.connectTimeout });
  }

  async function forward(exchange: Exchange): Promise<void> {
    const { guest, request } = exchange;
    const url = URL.parse(request.url ?? "");
    if (url?.protocol !== "http:") throw new Refusal(400, "use CONNECT for anything but http://");
    const { destination } = await gate.permit(guest, targetOf(url));
    await passThrough(
      exchange,
      settings.tunnelIdleTimeout,
      (passage) =>
        gate.audited(guest, destination, async () => {
          const wanted = requestTo(url, request, passage, settings.tunnelIdleTimeout);
          return await dialer.request(destination, wanted);
        }),
      (answer) => streamAnswer(exchange, answer, answer.headers),
    );
  }

  return { tunnel, forward };
}

function requestTo(
  url: URL,
  request: IncomingMessage,
  { body, signal }: Passage,
  idleTimeoutMs: number,
): DestinedRequest {
  return {
    origin: url.origin,
    path: url.pathname + url.search,
    method: request.method as Dispatcher.HttpMethod,
    headers: headersFromGuest(request.headers),
    headersTimeout: 0,
    bodyTimeout: idleTimeoutMs,
    signal,
    ...(body ? { body } : {}),
  };
}

/** Throws Refusal 400 for a host that is none. */
export function targetOf(url: URL): Target {
  const target = parseTarget(url.host, url.protocol === "https:" ? 443 : 80);
  if (target === undefined) throw new Refusal(400, "the URL names no usable host");
  return target;
}

function signalOfEnd(socket: Duplex): AbortSignal {
  const controller = new AbortController();
  socket.once("close", () => controller.abort(new Error("the guest closed the connection")));
  return controller.signal;
}

interface Ends {
  readonly guest: Socket;
  readonly upstream: Socket;
  /** Stands between the guest and the other end. */
  readonly check: Transform | undefined;
}

/** Both directions, each with its own end: one side may have said all and still listen. Returns why it was broken off, if it was. */
async function join({ guest, upstream, check }: Ends, idleTimeoutMs: number): Promise<unknown> {
  for (const socket of [guest, upstream]) {
    // Two pipelines listen to each: that is no leak, which Node warns of from eleven on.
    socket.setMaxListeners(LISTENERS_OF_TUNNEL);
    socket.on("error", () => {});
    socket.setTimeout(idleTimeoutMs, () => {
      guest.destroy();
      upstream.destroy();
    });
  }
  // Before anything is broken off: a client can show what is wrong only if it is told.
  check?.once("error", (error) => {
    if (error instanceof WrongName && guest.writable) guest.write(UNRECOGNIZED_NAME_ALERT);
  });
  try {
    const there = check ? pipeline(guest, check, upstream) : pipeline(guest, upstream);
    await Promise.all([there, pipeline(upstream, guest)]);
    return undefined;
  } catch (error) {
    // A broken tunnel is the guest's to notice: both ends are closed below.
    return check?.errored ?? error;
  } finally {
    guest.destroy();
    upstream.destroy();
  }
}
