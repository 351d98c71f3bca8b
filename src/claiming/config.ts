import { z } from "zod";
import { durationMs } from "../domain/config.ts";

/** `claiming`: how FireRunner asks GitLab for jobs. */
export const ClaimingConfig = z
  .strictObject({
    parallelPolls: z.number().int().min(1).max(64).default(8).meta({
      description: "Requests open at one time for one runner, while each of them brings a job.",
    }),
    turnInterval: durationMs().prefault("1s").meta({
      description:
        "When the free capacity does not cover one machine of every pool, how often each runner asks in turn.",
    }),
    requestsPerMinute: z.number().int().min(6).max(1_900).default(1_800).meta({
      description: "Job requests of one runner in a minute at most. GitLab accepts 2000.",
    }),
  })
  .meta({ reload: "restart" });
export type ClaimingConfig = z.infer<typeof ClaimingConfig>;
