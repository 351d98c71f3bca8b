import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { Dispatcher } from "undici";
import { type Egress, normalEgress } from "../lifecycle/egress.ts";
import type { Store } from "../store/store.ts";
import type { Audit } from "./audit.ts";
import type { RelaySettings } from "./config.ts";
import type { Destination, Dialer } from "./egress-dialer.ts";
import { describeTarget, judgeTarget, parseTarget, type Target } from "./egress-policy.ts";
import { Refusal } from "./errors.ts";
import type { Exchange } from "./exchange.ts";
import type { Guest } from "./guest.ts";
import { headersFromGuest } from "./headers.ts";
import { type Passage, passThrough, streamAnswer } from "./streaming.ts";

export interface EgressProxyOptions {
  readonly store: Store;
  readonly dialer: Dialer;
  readonly audit: Audit;
  readonly settings: RelaySettings;
  /** What a pool's guests may reach now; undefined for a pool that is no longer configured. */
  readonly egressOf: (pool: string) => Egress | undefined;
  readonly gitlabOrigin: string;
}

export interface EgressProxy {
  /** `CONNECT host:port`. Resolves when the tunnel has ended; `head` is what the guest sent after the header already. */
  tunnel(guest: Guest, request: IncomingMessage, socket: Socket, head: Buffer): Promise<void>;
  /** `GET http://host/path`. */
  forward(exchange: Exchange): Promise<void>;
}

/** The guest's way to other hosts, by the rules of its pool: a name is judged first, then every address it has. */
export function createEgressProxy(options: EgressProxyOptions): EgressProxy {
  const { store, dialer, audit, settings } = options;
  const gitlab = targetOf(new URL(options.gitlabOrigin));

  async function permit(guest: Guest, target: Target): Promise<Destination> {
    const machine = await store.machine(guest.machineId);
    const egress = (machine && options.egressOf(machine.pool)) ?? normalEgress("none");
    const verdict = judgeTarget(egress, target, gitlab);
    const name = describeTarget(target);
    if (!verdict.allowed) {
      audit.refused(guest, target, verdict.reason);
      throw new Refusal(403, `${name} is closed to this machine: ${verdict.reason}`);
    }
    const { addresses, named } = verdict;
    return { target, addresses, named };
  }

  /** Runs `use` and records how the destination was judged once its addresses are known too. */
  async function audited<T>(guest: Guest, { target }: Destination, use: () => Promise<T>): Promise<T> {
    try {
      const result = await use();
      audit.allowed(guest, target);
      return result;
    } catch (error) {
      const refusal = refusalIn(error);
      if (refusal?.status === 403) audit.refused(guest, target, refusal.message);
      else audit.allowed(guest, target);
      throw refusal ?? new Refusal(502, `${describeTarget(target)} did not answer`, { cause: error });
    }
  }

  async function tunnel(guest: Guest, request: IncomingMessage, socket: Socket, head: Buffer) {
    const target = parseTarget(request.url ?? "");
    if (target === undefined) throw new Refusal(400, "CONNECT needs a host and a port");
    const destination = await permit(guest, target);
    const signal = signalOfEnd(socket);
    const upstream = await audited(guest, destination, () => dialer.connect(destination, signal));
    socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
    if (head.length > 0) upstream.write(head);
    await join(socket, upstream, settings.tunnelIdleTimeout);
  }

  async function forward(exchange: Exchange): Promise<void> {
    const { guest, request } = exchange;
    const url = URL.parse(request.url ?? "");
    if (url?.protocol !== "http:") throw new Refusal(400, "use CONNECT for anything but http://");
    const destination = await permit(guest, targetOf(url));
    await passThrough(
      exchange,
      settings.tunnelIdleTimeout,
      (passage) =>
        audited(guest, destination, async () => {
          dialer.check(destination);
          const wanted = requestTo(url, request, passage, settings.tunnelIdleTimeout);
          return await dialer.dispatcher(destination).request(wanted);
        }),
      (answer) => streamAnswer(exchange, answer, answer.headers),
    );
  }

  return {
    tunnel: (guest, request, socket, head) =>
      limited(guest, settings.tunnels, () => tunnel(guest, request, socket, head)),
    forward: (exchange) => limited(exchange.guest, settings.tunnels, () => forward(exchange)),
  };
}

async function limited<T>(guest: Guest, limit: number, use: () => Promise<T>): Promise<T> {
  if (guest.openTunnels >= limit) throw tooManyTunnels(limit);
  guest.openTunnels += 1;
  try {
    return await use();
  } finally {
    guest.openTunnels -= 1;
  }
}

function requestTo(
  url: URL,
  request: IncomingMessage,
  { body, signal }: Passage,
  idleTimeoutMs: number,
): Dispatcher.RequestOptions {
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

function tooManyTunnels(limit: number): Refusal {
  const rule = "too-many-tunnels";
  return new Refusal(503, `more than ${limit} connections at one time`, { rule });
}

/** Throws Refusal 400 for a host that is none. */
function targetOf(url: URL): Target {
  const target = parseTarget(url.host, url.protocol === "https:" ? 443 : 80);
  if (target === undefined) throw new Refusal(400, "the URL names no usable host");
  return target;
}

/** A look-up's verdict comes out of the HTTP client as a cause. */
function refusalIn(error: unknown): Refusal | undefined {
  for (let at = error; at instanceof Error; at = at.cause) {
    if (at instanceof Refusal) return at;
  }
  return undefined;
}

function signalOfEnd(socket: Duplex): AbortSignal {
  const controller = new AbortController();
  socket.once("close", () => controller.abort(new Error("the guest closed the connection")));
  return controller.signal;
}

/** Both directions, each with its own end: one side may have said all and still listen. */
async function join(guest: Socket, upstream: Socket, idleTimeoutMs: number): Promise<void> {
  for (const socket of [guest, upstream]) {
    socket.on("error", () => {});
    socket.setTimeout(idleTimeoutMs, () => {
      guest.destroy();
      upstream.destroy();
    });
  }
  try {
    await Promise.all([pipeline(guest, upstream), pipeline(upstream, guest)]);
  } catch {
    // A broken tunnel is the guest's to notice: both ends are closed below.
  } finally {
    guest.destroy();
    upstream.destroy();
  }
}
