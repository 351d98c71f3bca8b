import { isIP } from "node:net";
import { formatHostPort } from "../base/host-port.ts";

/** What guests of a pool may reach beside the relay: the one form that everything after the configuration works with. */
export interface Egress {
  /** `internet`: public addresses, and `hosts` besides. `list`: `hosts` only. */
  readonly mode: "none" | "internet" | "list";
  readonly hosts: readonly EgressHost[];
  /** With `list`: public hosts that are not in it are let pass and written down, so that a list can be made of them. */
  readonly audit: boolean;
}

export interface EgressHost {
  /** A name in lower case, or an address without brackets. */
  readonly host: string;
  readonly port: number;
  /** Written `*.host`: every name below it, not itself. */
  readonly anyBelow: boolean;
  readonly private: PrivateAddresses;
}

/** Addresses that are not public and yet allowed: none, those of private networks, or these ranges (`10.1.0.0/16`). */
export type PrivateAddresses = boolean | readonly string[];

/** A host as people write it. */
type EgressHostText = string | { readonly host: string; readonly private?: PrivateAddresses | undefined };

/** Egress as people write it. */
export type EgressText =
  | "none"
  | "internet"
  | readonly EgressHostText[]
  | {
      readonly mode: Egress["mode"];
      readonly hosts?: readonly EgressHostText[] | undefined;
      readonly audit?: boolean | undefined;
    };

const DEFAULT_PORT = 443;

/** `*.example.org:443`, `10.0.0.5`, `[2001:db8::1]:5000` in its parts; undefined when it is none. */
export function parseEgressHost(text: string): Omit<EgressHost, "private"> | undefined {
  const match = /^(\*\.)?(?:\[([0-9a-f:.]+)\]|([^:[\]*]+))(?::(\d{1,5}))?$/i.exec(text);
  if (!match) return undefined;
  const [, wildcard, ipv6, name, digits] = match;
  const host = (ipv6 ?? name ?? "").toLowerCase();
  const port = digits === undefined ? DEFAULT_PORT : Number(digits);
  const anyBelow = wildcard !== undefined;
  const isHost = ipv6 === undefined ? isName(host) : isIP(host) === 6;
  if (!isHost || port < 1 || port > 65_535 || (anyBelow && isIP(host) !== 0)) return undefined;
  return { host, port, anyBelow };
}

function isName(host: string): boolean {
  return host.length <= 253 && /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/.test(host);
}

/** What was written, in the one form. Every host in it has been found to be well written. */
export function normalEgress(text: EgressText): Egress {
  if (text === "none" || text === "internet") return { mode: text, hosts: [], audit: false };
  if (isList(text)) return { mode: "list", hosts: distinct(text.map(normalHost)), audit: false };
  const { mode, hosts = [], audit = false } = text;
  return { mode, hosts: hosts.map(normalHost), audit };
}

function isList(text: EgressText): text is readonly EgressHostText[] {
  return Array.isArray(text);
}

/** An address that is written out is meant: it may be a private one, and no other range is opened by it. */
function normalHost(written: EgressHostText): EgressHost {
  const text = typeof written === "string" ? { host: written } : written;
  const parsed = parseEgressHost(text.host);
  if (parsed === undefined) throw new TypeError(`“${text.host}” is no host`);
  const { host } = parsed;
  const own = isIP(host) === 0 ? (text.private ?? false) : [`${host}/${isIP(host) === 4 ? 32 : 128}`];
  return { ...parsed, private: own };
}

function distinct(hosts: readonly EgressHost[]): EgressHost[] {
  return [...new Map(hosts.map((each) => [JSON.stringify(each), each])).values()];
}

/** As an operator would write it, the shortest way. */
export function formatEgress({ mode, hosts, audit }: Egress): EgressText {
  const written = hosts.map(hostInWords);
  if (audit) return { mode, hosts: written, audit };
  if (mode === "list") return written;
  return written.length === 0 ? mode : { mode, hosts: written };
}

function hostInWords(entry: EgressHost): EgressHostText {
  const text = describeEgressHost(entry);
  return isIP(entry.host) !== 0 || entry.private === false ? text : { host: text, private: entry.private };
}

function describeEgressHost({ host, port, anyBelow }: Omit<EgressHost, "private">): string {
  return `${anyBelow ? "*." : ""}${formatHostPort({ host, port })}`;
}
