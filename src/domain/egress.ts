import { isIP } from "node:net";
import { z } from "zod";
import { formatHostPort } from "../base/host-port.ts";
import { addressKind, isSingle } from "./address-kinds.ts";

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
  const written = hosts.map(writtenHost);
  if (audit) return { mode, hosts: written, audit };
  if (mode === "list") return written;
  return written.length === 0 ? mode : { mode, hosts: written };
}

function writtenHost(entry: EgressHost): EgressHostText {
  const text = describeEgressHost(entry);
  return isIP(entry.host) !== 0 || entry.private === false ? text : { host: text, private: entry.private };
}

function describeEgressHost({ host, port, anyBelow }: Omit<EgressHost, "private">): string {
  return `${anyBelow ? "*." : ""}${formatHostPort({ host, port })}`;
}

/** Wider ranges hold more than a company's own networks. */
const WIDEST_IPV4_BITS = 8;
const WIDEST_IPV6_BITS = 7;

const host = z
  .string()
  .refine(
    (text) => parseEgressHost(text) !== undefined,
    "expected host:port or *.domain:port, such as registry.example.org:443",
  )
  .refine((text) => !isUnreachable(text), "no host can be reached at such an address");

const range = z.string().superRefine((text, context) => {
  const message = rangeProblem(text);
  if (message !== undefined) context.addIssue({ code: "custom", message });
});

const EgressHostEntry = z
  .strictObject({
    host: host.meta({ description: "host:port or *.domain:port." }),
    private: z
      .union([z.boolean(), z.array(range).min(1)])
      .default(false)
      .meta({ description: "Whether it may have private addresses: true, or which." }),
  })
  .superRefine((entry, context) => {
    const parsed = parseEgressHost(entry.host);
    if (parsed === undefined || entry.private === false) return;
    if (parsed.anyBelow && entry.private === true) {
      const message =
        "names below a domain may have private addresses by range only: write private: [ 10.1.0.0/16 ]";
      context.addIssue({ code: "custom", path: ["private"], message });
    }
    if (isIP(parsed.host) !== 0 && entry.private !== true) {
      const message = "an address that is written out is allowed as it is: leave the ranges out";
      context.addIssue({ code: "custom", path: ["private"], message });
    }
  });

const entries = z.array(z.union([host, EgressHostEntry]));

const EgressObject = z
  .strictObject({
    mode: z.enum(["none", "internet", "list"]).meta({ description: "What may be reached besides “hosts”." }),
    hosts: entries.optional().meta({ description: "Hosts that may be reached." }),
    audit: z.boolean().optional().meta({
      description:
        "With mode list: let public hosts pass that are not listed, and write them down, to make a list of them.",
    }),
  })
  .superRefine(({ mode, hosts = [], audit = false }, context) => {
    if (mode === "none" && hosts.length > 0) {
      const message = "nothing can be reached with mode none: write mode: list for these hosts alone";
      context.addIssue({ code: "custom", path: ["hosts"], message });
    }
    if (audit && mode !== "list") {
      const message = "audit is for mode list: it lets pass and writes down what the list lacks";
      context.addIssue({ code: "custom", path: ["audit"], message });
    }
  });

/** `egress` of a pool, in every form people may write it. */
export const EgressConfig = z
  .union([z.enum(["none", "internet"]), entries, EgressObject])
  .superRefine((text, context) => {
    for (const [path, message] of doubles(text)) context.addIssue({ code: "custom", path, message });
  })
  .transform((text) => normalEgress(text))
  .meta({ unit: "egress" });

/** The same host twice: a mistake in the long form, and where it has two meanings; the short form always took it. */
function doubles(text: EgressText): [(string | number)[], string][] {
  if (typeof text === "string") return [];
  const [hosts, path] = "mode" in text ? [text.hosts ?? [], ["hosts"]] : [text, []];
  const meanings = new Map<string, string>();
  return hosts.flatMap((each, index): [(string | number)[], string][] => {
    const written = typeof each === "string" ? { host: each } : each;
    const key = JSON.stringify(parseEgressHost(written.host) ?? written.host);
    const meaning = JSON.stringify(written.private ?? false);
    const before = meanings.get(key);
    meanings.set(key, meaning);
    const isHarmless = before === undefined || (path.length === 0 && before === meaning);
    return isHarmless ? [] : [[[...path, index], `“${written.host}” is listed twice`]];
  });
}

function rangeProblem(text: string): string | undefined {
  const [address = "", bits = "", ...rest] = text.split("/");
  const family = isIP(address);
  if (family === 0 || rest.length > 0 || !/^\d{0,3}$/.test(bits) || text.endsWith("/"))
    return "expected an address or a range, such as 10.1.0.0/16 or fd12:3456::/48";
  const [widest, all] = family === 4 ? [WIDEST_IPV4_BITS, 32] : [WIDEST_IPV6_BITS, 128];
  if (bits !== "" && (Number(bits) < widest || Number(bits) > all))
    return `a range is between /${widest} and /${all}`;
  const kind = addressKind(address);
  if (kind === "never") return "no host can be reached at such an address";
  if (kind === "closed" && !isSingle(text))
    return "loopback, link-local and metadata addresses are opened one by one: write the address";
  return undefined;
}

function isUnreachable(text: string): boolean {
  const address = parseEgressHost(text)?.host ?? "";
  return isIP(address) !== 0 && addressKind(address) === "never";
}
