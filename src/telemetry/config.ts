import { z } from "zod";

/** The log, on standard output. */
export const LogSettings = z
  .strictObject({
    level: z
      .enum(["debug", "info", "warn", "error", "silent"])
      .default("info")
      .meta({ description: "The least important messages that are written." }),
    format: z.enum(["auto", "json", "logfmt", "journald", "pretty"]).default("auto").meta({
      reload: "restart",
      description:
        "json: one object a line; logfmt: name=value; journald: json behind the priority that systemd's journal reads; pretty: for people; auto: pretty on a terminal, journald where standard output is the journal, else json.",
    }),
    fields: z.enum(["standard", "old"]).default("standard").meta({
      reload: "restart",
      description:
        "Names of fields. standard: as docs/logs.md lists them (job_id, error.code). old: as the release before wrote them (jobId, err); to be left out with the next one.",
    }),
  })
  .meta({ reload: "live" });
export type LogSettings = z.infer<typeof LogSettings>;
