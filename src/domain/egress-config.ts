import { isIP } from "node:net";
import { z } from "zod";
import { addressKind, isSingle } from "./address-kinds.ts";
import { type EgressText, normalEgress, parseEgressHost } from "./egress.ts";

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
export const Egress = z
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
