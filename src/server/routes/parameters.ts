/** What more than one route takes. */
import { z } from "zod";
import { machineIdForm } from "../../base/ids.ts";

export const flag = z
  .enum(["0", "1"])
  .default("0")
  .transform((text) => text === "1");

export const JobParams = z.object({ id: z.coerce.number().int().positive() });

export const machineId = z.string().regex(machineIdForm, "a machine's id looks like fr-abcd2345");
