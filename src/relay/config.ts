import { z } from "zod";
import { splitHostPort } from "../base/host-port.ts";
import { durationMs, sizeMib } from "../domain/config.ts";
import { RELAY_IN_GUEST } from "../domain/drivers.ts";

const count = z.number().int().min(1);
const hostPort = /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d{1,5})?$/i;

const networkAddress = z
  .string()
  .regex(
    /^(\[[0-9a-f:.]+\]|[a-z0-9]([a-z0-9.-]*[a-z0-9])?):\d{1,5}$/i,
    "expected host:port, such as 0.0.0.0:8444",
  )
  .refine((text) => splitHostPort(text).port <= 65_535, "a port is at most 65535");

const RelayTls = z.strictObject({
  certificateFile: z.string().meta({ description: "PEM file with the certificate and its chain." }),
  keyFile: z.string().meta({ description: "PEM file with the private key." }),
  caFile: z.string().meta({
    description: "PEM file with the authority that signed it: what machines trust, and nothing else.",
  }),
});
export type RelayTls = z.infer<typeof RelayTls>;

/**
 * What one guest may ask of the relay, and where those of other hosts find it. Every limit is per machine: a guest that breaks one
 * hurts only its own job.
 */
export const RelaySettings = z
  .strictObject({
    listen: z.array(networkAddress).default([]).meta({
      description:
        "Addresses (host:port) on which machines of other hosts reach the relay, by TLS. Machines of this computer need none.",
    }),
    advertise: networkAddress
      .refine((text) => !isWildcard(text), "name an address by which machines reach this computer")
      .refine(
        (text) => splitHostPort(text).host !== RELAY_IN_GUEST,
        `machines have ${RELAY_IN_GUEST} themselves, as their own address of the relay: name another address of this computer`,
      )
      .optional()
      .meta({
        description:
          "The relay's address (host:port) as machines on other hosts reach it. Needed unless “listen” is one address of this computer.",
      }),
    tls: RelayTls.optional().meta({
      description:
        "The relay's certificate. Without it FireRunner makes an authority of its own, keeps it in the state directory and renews what it signs.",
    }),
    traceInterval: durationMs().prefault("3s").meta({
      description:
        "How often a guest's runner sends its log, asks whether its job was canceled and repeats a final update.",
    }),
    updatesPerMinute: count.max(150).default(60).meta({
      description:
        "Log patches and job updates forwarded to GitLab for one job in a minute (GitLab accepts 200). More are joined by letting the runner wait.",
    }),
    traceLimit: sizeMib().prefault("100MiB").meta({
      description:
        "The longest log of a job. A machine's runner collects no more than fits, says so in the log, and the job goes on. As it comes, GitLab's own limit (ci_jobs_trace_size_limit), beyond which GitLab ends the job as failed.",
    }),
    connections: count.default(128).meta({ description: "Open connections of one machine." }),
    requestsPerSecond: count
      .default(50)
      .meta({ description: "Requests of one machine, sustained; ten times as many in a burst." }),
    heldPerMachine: sizeMib().prefault("16MiB").meta({
      description:
        "Memory for what is on its way between one machine and GitLab or elsewhere. More is refused.",
    }),
    heldInAll: sizeMib().prefault("256MiB").meta({
      description:
        "The same for all machines together. Half of it is anybody's; the other half is shared out evenly, so that no machine is kept out by others.",
    }),
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
  })
  .meta({ reload: "restart" });
export type RelaySettings = z.infer<typeof RelaySettings>;

/** Room in a log for what is not the job's output: our own lines at its head, and the runner's words where it stops. */
const LOG_MARGIN_KIB = 64;

/** How much of a log the runner in a machine may collect, so that the whole stays below the limit. */
export function runnerLogLimitKib({ traceLimit }: Pick<RelaySettings, "traceLimit">): number {
  return traceLimit * 1_024 - LOG_MARGIN_KIB;
}

/** How machines on other hosts reach the relay; undefined when it must be configured. */
export function advertisedAddress({ listen, advertise }: RelaySettings): string | undefined {
  if (advertise !== undefined) return advertise;
  const [only, ...others] = listen;
  return only === undefined || others.length > 0 || isWildcard(only) ? undefined : only;
}

/** All addresses of this computer: nothing that anybody could call. */
function isWildcard(text: string): boolean {
  return ["0.0.0.0", "::", "0:0:0:0:0:0:0:0"].includes(splitHostPort(text).host);
}
