import { z } from "zod";

/** The `guests` part of the configuration. */
export const GuestsConfig = z
  .strictObject({
    caFile: z.string().min(1).optional().meta({
      description:
        "PEM file of certificate authorities that machines trust besides those of their image, gitlab.caFile and proxy.caFile.",
    }),
  })
  .meta({ reload: "restart" });
export type GuestsConfig = z.infer<typeof GuestsConfig>;
