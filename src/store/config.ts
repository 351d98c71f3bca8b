import { z } from "zod";
import { HOUR_MS } from "../base/units.ts";
import { durationMs } from "../domain/config.ts";

export const HistoryConfig = z
  .strictObject({
    keep: durationMs()
      .default(30 * 24 * HOUR_MS)
      .meta({
        description: "How long ended jobs and their events can be looked at before they are deleted.",
      }),
  })
  .meta({ reload: "live" });
