import { z } from "zod";
import { AddressRange, isPlain, isPlainAndFar, Listener, TlsPaths } from "../config.ts";

/** `metrics`: what Prometheus asks. Nothing listens unless `listen` names an address. */
export const MetricsConfig = z
  .strictObject({
    listen: z.array(Listener).default([]).meta({
      description:
        "Addresses at which /metrics is served: host:port speaks TLS, http://host:port is plain and must be of loopback.",
    }),
    tls: TlsPaths.optional().meta({
      description: "Certificate of the TLS addresses. Both files are read again when they change.",
    }),
    allow: z.array(AddressRange).default([]).meta({
      description: "Clients that may ask, as address ranges; empty: all that reach the address.",
      reload: "live",
    }),
    tokenFile: z.string().optional().meta({
      description:
        "A file with a token that clients must send (Authorization: Bearer …): `credentials_file` of Prometheus.",
      reload: "live",
    }),
    compatibility: z.enum(["gitlab-runner"]).optional().meta({
      description: "Give the series of GitLab's own runner besides, for dashboards that were made for them.",
    }),
  })
  .refine(({ listen, tls }) => tls !== undefined || listen.every(isPlain), {
    path: ["tls"],
    message:
      "an address of “listen” speaks TLS: give tls.certificateFile and tls.keyFile, or write http:// before an address of loopback",
  })
  .refine(({ listen }) => !listen.some(isPlainAndFar), {
    path: ["listen"],
    message:
      "metrics are served without TLS on this computer alone: listen on http://127.0.0.1:PORT, or give metrics.tls and leave http:// out",
  })
  .meta({ reload: "restart" });
export type MetricsConfig = z.infer<typeof MetricsConfig>;
