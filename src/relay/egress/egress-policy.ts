import { STATUS_CODES } from "node:http";
import { isIP } from "node:net";
import { causeIn } from "../../base/errors.ts";
import { type Egress, type EgressHost, type PrivateAddresses, parseEgressHost } from "../../domain/egress.ts";
import { Refusal } from "../errors.ts";
import type { NameRule } from "./egress-name-check.ts";

/** Where a guest wants to go. `host` in lower case, without brackets and without a dot at its end. */
export interface Target {
  readonly host: string;
  readonly port: number;
}

/** Which addresses a target may have besides public ones; `any` for hosts that the operator named for FireRunner itself. */
type OpenAddresses = "any" | PrivateAddresses;

export interface Destination {
  readonly target: Target;
  /** Which addresses it may have besides public ones. */
  readonly addresses: OpenAddresses;
  /** The operator wrote this name: it is looked up as the system does, in this computer's own tables too. */
  readonly named: boolean;
}

type EgressDecision =
  | {
      readonly allowed: true;
      readonly addresses: OpenAddresses;
      /** The operator wrote this very name: it may stand in this computer's own tables. */
      readonly named: boolean;
      /** What its TLS must say: whoever may go to a private address by a name goes to nobody else behind it. */
      readonly nameRule: NameRule;
      /** The pool's list lacks it: it passes only to be written down. */
      readonly unlisted: boolean;
    }
  | { readonly allowed: false; readonly reason: string };

const MAIL_PORT = 25;

/** Whether a pool's guests may reach a target by its name. What the name resolves to is checked apart. */
export function evaluateTarget(
  { mode, hosts, audit }: Egress,
  target: Target,
  gitlab: Target,
): EgressDecision {
  if (mode === "none") return refused("machines of this pool have no access to other hosts (egress: none)");
  if (target.host === gitlab.host && target.port === gitlab.port)
    return allowed("any", { named: true, nameRule: "required" });
  const entry = entryFor(hosts, target);
  if (entry) return ofEntry(entry);
  if (mode === "list" && !audit) return refused("it is not in the pool's egress list");
  if (target.port === MAIL_PORT) return refused("mail (port 25) is closed");
  return allowed(false, { unlisted: mode === "list" });
}

function ofEntry({ host, anyBelow, private: opened }: EgressHost): EgressDecision {
  const nameRule = opened === false || isIP(host) !== 0 ? "free" : "checked";
  return allowed(opened, { named: !anyBelow && opened !== false, nameRule });
}

/** The entry that says most of a target: its own name before a domain, a long domain before a short one. */
function entryFor(hosts: readonly EgressHost[], target: Target): EgressHost | undefined {
  return hosts
    .filter((each) => matches(each, target))
    .reduce<EgressHost | undefined>((best, each) => (best && isCloser(best, each) ? best : each), undefined);
}

function isCloser(one: EgressHost, other: EgressHost): boolean {
  return one.anyBelow === other.anyBelow ? one.host.length >= other.host.length : !one.anyBelow;
}

/** True when one of `host[:port]` (443 unless said) names the target. */
export function isListed(entries: readonly string[], target: Target): boolean {
  return entries.some((text) => {
    const entry = parseEgressHost(text);
    return entry !== undefined && matches(entry, target);
  });
}

function matches(entry: Omit<EgressHost, "private">, { host, port }: Target): boolean {
  if (entry.port !== port) return false;
  return entry.anyBelow ? host.endsWith(`.${entry.host}`) : isSameHost(host, entry.host);
}

/** Addresses of IPv6 can be written in many ways. */
function isSameHost(one: string, other: string): boolean {
  return one === other || (isIP(one) === 6 && isIP(other) === 6 && canonical(one) === canonical(other));
}

function canonical(ipv6: string): string {
  return new URL(`http://[${ipv6}]`).hostname;
}

function allowed(
  addresses: OpenAddresses,
  { named = false, unlisted = false, nameRule = "free" }: Partial<Extract<EgressDecision, { allowed: true }>>,
): EgressDecision {
  return { allowed: true, addresses, named, nameRule, unlisted };
}

function refused(reason: string): EgressDecision {
  return { allowed: false, reason };
}

const hostName = /^(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_][a-z0-9_-]{0,62})*$/;

/** The authority of a request (`example.com:443`, `[2001:db8::1]:443`) as a target; undefined when it is none. */
export function parseTarget(authority: string, defaultPort?: number): Target | undefined {
  const match = /^(?:\[([0-9a-f:.]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/i.exec(authority);
  if (!match) return undefined;
  const [, ipv6, name, digits] = match;
  const host = (ipv6 ?? name ?? "").toLowerCase().replace(/\.$/, "");
  const port = digits === undefined ? defaultPort : Number(digits);
  if (port === undefined || port < 1 || port > 65_535) return undefined;
  const isHost = ipv6 === undefined ? hostName.test(host) : isIP(host) === 6;
  return isHost ? { host, port } : undefined;
}

const LONGEST_PHRASE = 200;

/** Why a guest does not get to a host: 403 where it may not, 502 and 504 where the host cannot be reached. */
export class EgressRefusal extends Refusal {
  /** Without the host's name: for lines that have it already. */
  readonly reason: string;

  constructor(status: number, message: string, reason: string, options: { cause?: unknown } = {}) {
    super(status, `${message}: ${reason}`, options);
    this.reason = reason;
  }
}

/** For the status line of an answer: some programs, apt among them, show nothing else of it. */
export function statusPhrase({ status, reason }: Pick<EgressRefusal, "status" | "reason">): string {
  const phrase = `${STATUS_CODES[status] ?? "Refused"} by FireRunner: ${reason}`;
  return phrase.replace(/[^\x20-\x7e]/g, "?").slice(0, LONGEST_PHRASE);
}

export function refusalIn(error: unknown): EgressRefusal | undefined {
  return causeIn(error, EgressRefusal);
}

const messageOfCode: Readonly<Record<string, string>> = {
  ECONNREFUSED: "the connection was refused: nobody listens there",
  ECONNRESET: "the connection was broken off",
  UND_ERR_SOCKET: "the connection was broken off",
  EHOSTUNREACH: "there is no way to that host",
  ENETUNREACH: "there is no way to that network",
  ETIMEDOUT: "it did not answer in time",
  UND_ERR_CONNECT_TIMEOUT: "it did not answer in time",
  UND_ERR_BODY_TIMEOUT: "it fell silent",
  UND_ERR_HEADERS_TIMEOUT: "it did not answer in time",
  ENOTFOUND: "there is no such name",
  ENODATA: "the name has no address",
  EAI_AGAIN: "no name server answered",
  ETIMEOUT: "no name server answered",
  ESERVFAIL: "the name server failed",
  EREFUSED: "the name server refused to answer",
};

/** What went wrong on the way to a host, in words that hold nothing of this computer's own. */
export function reasonOf(error: unknown): string {
  for (let at = error; at instanceof Error; at = at.cause) {
    if (at.name === "TimeoutError") return "it did not answer in time";
    const message = messageOfCode[(at as NodeJS.ErrnoException).code ?? ""];
    if (message !== undefined) return message;
  }
  return "it did not answer";
}
