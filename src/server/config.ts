import { z } from "zod";
import { durationMs, sizeMib } from "../domain/config.ts";
import { AddressRange, Listener, TlsPaths } from "./network/config.ts";

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
