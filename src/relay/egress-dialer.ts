import { connect, isIP, type LookupFunction, type Socket } from "node:net";
import { Agent, type Dispatcher } from "undici";
import type { AddressGuard } from "./egress-addresses.ts";
import { describeTarget, type OpenAddresses, type Target } from "./egress-policy.ts";
import { EgressRefusal, reasonOf } from "./egress-refusal.ts";
import { type Resolve, resolveByDns, resolveBySystem } from "./egress-resolve.ts";

export interface Destination {
  readonly target: Target;
  /** Which addresses it may have besides public ones. */
  readonly addresses: OpenAddresses;
  /** The operator wrote this name: it is looked up as the system does, in this computer's own tables too. */
  readonly named: boolean;
}

/**
 * Reaches hosts that a guest, or GitLab on its behalf, has named. A name is resolved here and nowhere else, every address it has
 * is judged, and the connection goes to an address that was judged: a second look-up that answers differently cannot happen.
 */
export interface Dialer {
  /** A TCP connection, established. Throws EgressRefusal: 403 when an address is forbidden, 502 or 504 when it cannot be reached. */
  connect(destination: Destination, signal: AbortSignal): Promise<Socket>;
  /** For HTTP(S) requests to a destination that `check` has let pass. */
  dispatcher(destination: Destination): Dispatcher;
  /** Judges an address written as such; names are judged when they are resolved. Throws EgressRefusal. */
  check(destination: Destination): void;
  close(): Promise<void>;
}

export interface DialerOptions {
  readonly guard: AddressGuard;
  readonly connectTimeoutMs: number;
  /** Replaces both ways of resolving names: asking DNS for a guest's, and the system's for those the operator named. */
  readonly resolve?: Resolve;
}

/** What decides over an address, apart from the name: the same for all destinations of an entry of the configuration. */
type Judging = Pick<Destination, "addresses" | "named">;

export function createDialer({ guard, connectTimeoutMs, resolve }: DialerOptions): Dialer {
  const agents = new Map<string, Agent>();
  const byDns = resolve ?? resolveByDns();
  const bySystem = resolve ?? resolveBySystem;

  function judge(address: string, { addresses }: Judging): string | undefined {
    return addresses === "any" ? undefined : guard(address, addresses);
  }

  function check(destination: Destination): void {
    const { host } = destination.target;
    const reason = isIP(host) === 0 ? undefined : judge(host, destination);
    if (reason !== undefined) throw forbidden(host, host, reason);
  }

  function lookupFor(judging: Judging): LookupFunction {
    return checkedLookup(judging.named ? bySystem : byDns, (address) => judge(address, judging));
  }

  /** As many as the configuration has kinds of judging, those it once had included. */
  function agentFor({ addresses, named }: Judging): Agent {
    const key = JSON.stringify([addresses, named]);
    const known = agents.get(key);
    if (known) return known;
    const lookup = lookupFor({ addresses, named });
    const connector = { lookup, timeout: connectTimeoutMs };
    const agent = new Agent({ pipelining: 1, allowH2: false, connect: connector });
    agents.set(key, agent);
    return agent;
  }

  return {
    check,
    dispatcher: agentFor,
    async connect(destination, signal) {
      check(destination);
      return await established(destination.target, {
        lookup: lookupFor(destination),
        signal: AbortSignal.any([signal, AbortSignal.timeout(connectTimeoutMs)]),
      });
    },
    async close() {
      await Promise.all([...agents.values()].map((agent) => agent.destroy()));
    },
  };
}

function established(
  target: Target,
  { lookup, signal }: { lookup: LookupFunction; signal: AbortSignal },
): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: target.host, port: target.port, lookup, allowHalfOpen: true });
    const fail = (error: unknown) => {
      socket.destroy();
      reject(error instanceof EgressRefusal ? error : unreachable(target, error));
    };
    const abort = () => fail(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    socket.once("error", fail);
    socket.once("connect", () => {
      signal.removeEventListener("abort", abort);
      socket.off("error", fail);
      socket.setNoDelay(true);
      resolve(socket);
    });
    if (signal.aborted) abort();
  });
}

export function unreachable(target: Target, cause: unknown): EgressRefusal {
  const timedOut = cause instanceof Error && cause.name === "TimeoutError";
  const message = `${describeTarget(target)} cannot be reached`;
  return new EgressRefusal(timedOut ? 504 : 502, message, reasonOf(cause), { cause });
}

function checkedLookup(resolve: Resolve, guard: AddressGuard): LookupFunction {
  return (host, options, callback) => {
    resolveChecked(host, resolve, guard).then(
      (addresses) => {
        const all = addresses.map((address) => ({ address, family: isIP(address) }));
        const first = all[0];
        if (options.all) callback(null, all);
        else callback(null, first?.address ?? "", first?.family);
      },
      (error) => callback(error, options.all ? [] : ""),
    );
  };
}

/** One forbidden address condemns the name: a name that is both public and private is a trick or a mistake. */
async function resolveChecked(
  host: string,
  resolve: Resolve,
  guard: AddressGuard,
): Promise<readonly string[]> {
  const addresses = await resolve(host).catch((cause: unknown) => {
    throw unresolved(host, reasonOf(cause), cause);
  });
  if (addresses.length === 0) throw unresolved(host, "the name has no address");
  for (const address of addresses) {
    const reason = guard(address);
    if (reason !== undefined) throw forbidden(host, address, reason);
  }
  return addresses;
}

function unresolved(host: string, reason: string, cause?: unknown): EgressRefusal {
  return new EgressRefusal(502, `the name ${host} cannot be resolved`, reason, { cause });
}

function forbidden(host: string, address: string, reason: string): EgressRefusal {
  const what = host === address ? address : `${host} (${address})`;
  return new EgressRefusal(403, `${what} must not be reached from a machine`, reason);
}
