import { isIP } from "node:net";
import type { Egress } from "../lifecycle/config.ts";

/** Where a guest wants to go. `host` in lower case, without brackets and without a dot at its end. */
export interface Target {
  readonly host: string;
  readonly port: number;
}

/** `trusted`: the operator named this very host, so its address may be private. */
export type Verdict =
  | { readonly allowed: true; readonly trusted: boolean }
  | { readonly allowed: false; readonly reason: string };

const MAIL_PORT = 25;

/** Whether a pool's guests may reach a target by its name. What the name resolves to is judged apart. */
export function judgeTarget(egress: Egress, target: Target, gitlab: Target): Verdict {
  if (egress === "none") return refused("machines of this pool have no access to other hosts (egress: none)");
  if (target.host === gitlab.host && target.port === gitlab.port) return { allowed: true, trusted: true };
  if (egress === "internet") {
    return target.port === MAIL_PORT
      ? refused("mail (port 25) is closed")
      : { allowed: true, trusted: false };
  }
  const entry = egress.map(parseEntry).find((each) => matches(each, target));
  if (!entry) return refused("it is not in the pool's egress list");
  return { allowed: true, trusted: isIP(entry.host) !== 0 };
}

/** True when one of `host[:port]` (443 unless said) names the target. */
export function isListed(entries: readonly string[], target: Target): boolean {
  return entries.map(parseEntry).some((entry) => matches(entry, target));
}

interface Entry extends Target {
  readonly anyBelow: boolean;
}

function parseEntry(text: string): Entry {
  const [, wildcard, host = "", port] = /^(\*\.)?(.*?)(?::(\d+))?$/.exec(text.toLowerCase()) ?? [];
  return { anyBelow: wildcard !== undefined, host, port: port === undefined ? 443 : Number(port) };
}

function matches(entry: Entry, { host, port }: Target): boolean {
  if (entry.port !== port) return false;
  return entry.anyBelow ? host.endsWith(`.${entry.host}`) : host === entry.host;
}

function refused(reason: string): Verdict {
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

export function describeTarget({ host, port }: Target): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
