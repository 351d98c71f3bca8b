/** Trials of hosts over the control socket: what is asked for, and the steps that come back, one JSON text in a line each. */
import { z } from "zod";

/** A host as the configuration would have it, with its secrets: the socket is open to this user alone. */
const TrialHost = z.strictObject({
  name: z.string().min(1),
  addresses: z.array(z.string().min(1)).min(1),
  tls: z
    .strictObject({
      ca: z.string().nullable(),
      certificate: z.string().nullable(),
      key: z.string().nullable(),
      serverName: z.string().nullable(),
    })
    .nullable(),
  token: z.string().nullable(),
  network: z.strictObject({
    bridge: z.string().nullable(),
    addresses: z
      .strictObject({ first: z.string(), last: z.string(), prefixLength: z.number().int() })
      .nullable(),
    gateway: z.string().nullable(),
    nameservers: z.array(z.string()),
  }),
});

export const TrialOrder = z.strictObject({ host: TrialHost, image: z.string().min(1) });
export type TrialOrder = z.infer<typeof TrialOrder>;

/** One thing that was tried, as soon as it is known. After one that failed, only what was made is still removed. */
export const TrialStep = z.object({
  /** A word or two for the first column. */
  name: z.string(),
  level: z.enum(["ok", "skip", "fail"]),
  message: z.string(),
  hint: z.string().optional(),
  tookMs: z.number(),
  /** Of the guest's step: from the create until its first word at the relay. */
  relayMs: z.number().optional(),
});
export type TrialStep = z.infer<typeof TrialStep>;
