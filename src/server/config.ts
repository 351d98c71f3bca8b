import { BlockList, isIP } from "node:net";
import { z } from "zod";
import { durationMs, sizeMib } from "../domain/config.ts";

/** An address range: `10.0.0.0/8`, `2001:db8::/32`, or one address. */
export const AddressRange = z
  .string()
  .refine(isRange, "expected an address or a range, such as 10.0.0.0/8 or ::1");

function isRange(text: string): boolean {
  const [address = "", bits, ...rest] = text.split("/");
  const family = isIP(address);
  if (family === 0 || rest.length > 0) return false;
  if (bits === undefined) return true;
  if (!/^\d{1,3}$/.test(bits)) return false;
  try {
    new BlockList().addSubnet(address, Number(bits), family === 6 ? "ipv6" : "ipv4");
    return true;
  } catch {
    return false;
  }
}

const listener = /^(https?:\/\/)?(\[[0-9a-f:.]+\]|[a-z0-9.-]+):(\d{1,5})$/i;

/** Where a server listens: `host:port` and `https://host:port` speak TLS, only `http://host:port` is plain. */
export const Listener = z
  .string()
  .refine(
    (text) => listener.test(text),
    "expected host:port, such as 0.0.0.0:8443, or http://127.0.0.1:8080 without TLS",
  )
  .refine((text) => Number(text.slice(text.lastIndexOf(":") + 1)) <= 65_535, "a port is at most 65535");

/** Files of a certificate and its key, whose places and contents may change while we run. */
export const TlsPaths = z.strictObject({
  certificateFile: z
    .string()
    .meta({ description: "PEM file with the certificate and its chain.", reload: "live" }),
  keyFile: z.string().meta({ description: "PEM file with the private key.", reload: "live" }),
});

export function isPlain(listener: string): boolean {
  return /^http:\/\//i.test(listener);
}

/** Without TLS, and reached from elsewhere. */
export function isPlainAndFar(listener: string): boolean {
  const [, host = ""] = /^http:\/\/(.*):\d+$/i.exec(listener) ?? [];
  const address = host.replace(/^\[|\]$/g, "").toLowerCase();
  const isNear =
    address === "localhost" || address === "::1" || (isIP(address) === 4 && address.startsWith("127."));
  return isPlain(listener) && !isNear;
}

/** `http`: the public server. Nothing listens unless `listen` names an address. */
export const HttpConfig = z
  .strictObject({
    listen: z.array(Listener).default([]).meta({
      description:
        "Addresses to listen on: host:port speaks TLS, http://host:port is plain (for loopback, or behind a proxy that ends TLS).",
    }),
    tls: TlsPaths.optional().meta({
      description: "Certificate of the TLS addresses. Both files are read again when they change.",
    }),
    allow: z.array(AddressRange).default([]).meta({
      description: "Clients that may deliver webhooks, as address ranges; empty: all.",
      reload: "live",
    }),
    trustedProxies: z
      .array(AddressRange)
      .default([])
      .meta({ description: "Proxies whose X-Forwarded-For is believed.", reload: "live" }),
    unprovenPerMinute: z.number().int().min(1).max(100_000).default(60).meta({
      reload: "live",
      description:
        "Requests of one client address in a minute that prove nothing (no valid signature or token); an IPv6 client is its /64.",
    }),
    bodyLimit: sizeMib().prefault("10MiB").meta({ description: "Longest webhook body that is read." }),
    headersTimeout: durationMs()
      .prefault("10s")
      .meta({ description: "How long a request's headers may take." }),
    requestTimeout: durationMs().prefault("30s").meta({ description: "How long a whole request may take." }),
    idleTimeout: durationMs().prefault("60s").meta({ description: "How long a connection may be silent." }),
  })
  .refine(({ listen, tls }) => tls !== undefined || listen.every((each) => each.startsWith("http://")), {
    path: ["tls"],
    message:
      "an address of “listen” speaks TLS: give tls.certificateFile and tls.keyFile, or write http:// before it",
  })
  .meta({ reload: "restart" });
export type HttpConfig = z.infer<typeof HttpConfig>;
