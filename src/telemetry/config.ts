import { z } from "zod";

/** The log, on standard output. */
export const LogSettings = z
  .strictObject({
    level: z
      .enum(["debug", "info", "warn", "error", "silent"])
      .default("info")
      .meta({ description: "The least important messages that are written." }),
    format: z.enum(["auto", "json", "pretty"]).default("auto").meta({
      reload: "restart",
      description: "json: one object a line; pretty: for people; auto: pretty on a terminal, else json.",
    }),
  })
  .meta({ reload: "live" });
export type LogSettings = z.infer<typeof LogSettings>;
