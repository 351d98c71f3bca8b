import { z } from "zod";
import type { Secret } from "../../base/secret.ts";
import { HOUR_MS, SECOND_MS } from "../../base/units.ts";
import { durationMs } from "../../domain/config.ts";

const endpoint = z.string().superRefine((text, context) => {
  const problem = endpointProblem(text);
  if (problem !== undefined) context.addIssue({ code: "custom", message: problem });
});

function endpointProblem(text: string): string | undefined {
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol))
    return "expected the collector's address, such as http://collector.example.org:4318";
  if (url.port === "4317")
    return "4317 is where collectors speak gRPC: give the port for OTLP over HTTP, which is 4318 as a rule";
  if (url.username !== "" || url.password !== "")
    return "write credentials into headersFile, as a header (Authorization: Basic …)";
  return url.hash === "" ? undefined : "an address of a collector has no fragment (#…)";
}

/** The `traces` part of the configuration: a trace of each job, sent to a collector of OpenTelemetry. */
export const TracesSettings = z
  .strictObject({
    endpoint: endpoint.meta({
      description:
        "Where a collector takes OTLP over HTTP, such as http://localhost:4318; without a path /v1/traces is meant. Reached through “proxy” as other servers are.",
    }),
    headersFile: z.string().min(1).optional().meta({
      description:
        "A file with headers for the collector, one “Name: value” a line: tokens and tenants. No stranger may read it.",
    }),
    caFile: z.string().min(1).optional().meta({
      description: "PEM file of authorities to trust for the collector, besides the system's.",
    }),
    timeout: durationMs()
      .default(10 * SECOND_MS)
      .meta({ description: "How long the collector may take for its answer." }),
    sampling: z.number().min(0).max(1).default(1).meta({
      description:
        "The share of jobs that are traced, decided by the trace's id: the same share keeps the same traces everywhere. Counts for jobs that are claimed from then on.",
    }),
    guests: z.boolean().default(false).meta({
      description:
        "Whether jobs are told of their trace, by the variable TRACEPARENT, so that spans of their own hang in it.",
    }),
    keep: durationMs()
      .default(24 * HOUR_MS)
      .meta({
        description:
          "How long after a job's end its trace may wait for a collector that does not take it, before it is given up and counted as dropped; never longer than history.keep.",
      }),
  })
  .meta({ reload: "live" });
export type TracesSettings = z.infer<typeof TracesSettings>;

/** What the files of `traces` hold. */
export interface TracesAccess {
  /** Name and value of each. */
  readonly headers: readonly (readonly [string, Secret])[];
  /** PEM. */
  readonly ca: string | undefined;
}

/** Where spans are sent. */
export function spansUrl(endpoint: string): URL {
  const url = new URL(endpoint);
  if (url.pathname === "/") url.pathname = "/v1/traces";
  return url;
}
