import { z } from "zod";
import { durationMs, sizeMib } from "../lifecycle/config.ts";

const count = z.number().int().min(1);
const hostPort = /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d{1,5})?$/i;

/** What one guest may ask of the relay. Every limit is per machine: a guest that breaks one hurts only its own job. */
export const RelaySettings = z.strictObject({
  traceInterval: durationMs().prefault("3s").meta({
    description:
      "How often a guest's runner sends its log, asks whether its job was canceled and repeats a final update.",
  }),
  updatesPerMinute: count.max(150).default(60).meta({
    description:
      "Log patches and job updates forwarded to GitLab for one job in a minute (GitLab accepts 200). More are joined by letting the runner wait.",
  }),
  traceLimit: sizeMib()
    .prefault("256MiB")
    .meta({ description: "A job whose log grows beyond this is ended as failed." }),
  connections: count.default(128).meta({ description: "Open connections of one machine." }),
  requestsPerSecond: count
    .default(50)
    .meta({ description: "Requests of one machine, sustained; ten times as many in a burst." }),
  headerTimeout: durationMs()
    .prefault("15s")
    .meta({ description: "Time for a request's header to arrive once its connection is open." }),
  bodyTimeout: durationMs()
    .prefault("60s")
    .meta({ description: "Longest silence in the middle of a request's body." }),
  idleTimeout: durationMs().prefault("10m").meta({
    description: "Longest silence of a connection while GitLab or the guest is being waited for.",
  }),
  redeliverAfter: durationMs().prefault("15s").meta({
    description:
      "A runner that still asks for its job this long after it was sent, without ever having used the job's token, gets it again.",
  }),
  objectStorage: z
    .array(z.string().regex(hostPort, "expected host or host:port, such as minio.internal:9000"))
    .default([])
    .meta({
      description:
        "Hosts on private networks to which GitLab may redirect artifact downloads. Public ones need not be listed.",
    }),
  tunnels: count
    .default(64)
    .meta({ description: "Connections to elsewhere that one machine may have open." }),
  tunnelIdleTimeout: durationMs()
    .prefault("10m")
    .meta({ description: "Longest silence of a connection to elsewhere." }),
  connectTimeout: durationMs()
    .prefault("10s")
    .meta({ description: "Time to look up and reach a host that a guest names." }),
});
export type RelaySettings = z.infer<typeof RelaySettings>;
