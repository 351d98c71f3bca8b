import { z } from "zod";
import type { Secret } from "../../base/secret.ts";
import { AddressRange, isPlain, isPlainAndFar, Listener, TlsPaths } from "../config.ts";
import { type Role, roles } from "../roles.ts";

/** A token of `api.tokens`, as it was read. */
export interface ApiToken {
  readonly role: Role;
  readonly token: Secret;
}

const name = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9-]{0,30}$/,
    "a name has up to 31 of a-z, 0-9 and -, and starts with a letter or digit",
  );

/** `api`: what the command line shows and does, over the network. Nothing listens unless `listen` names an address. */
export const ApiConfig = z
  .strictObject({
    listen: z.array(Listener).default([]).meta({
      description:
        "Addresses at which the API is served: host:port speaks TLS, http://host:port is plain and must be of loopback.",
    }),
    tls: TlsPaths.optional().meta({
      description: "Certificate of the TLS addresses. Both files are read again when they change.",
    }),
    allow: z.array(AddressRange).default([]).meta({
      description: "Clients that may ask, as address ranges; empty: all that reach the address.",
      reload: "live",
    }),
    tokens: z
      .record(
        name,
        z.strictObject({
          role: z.enum(roles).meta({
            description:
              "viewer: looks at everything but logs and consoles; operator: those too, and drains, resumes, reloads, retries; admin: runners as well, and forgetting hosts.",
          }),
          tokenFile: z.string().meta({ description: "A file that holds the token: 20 characters or more." }),
        }),
      )
      .default({})
      .meta({ reload: "live", description: "Who may ask, by a name that the log of events shows." }),
  })
  .refine(({ listen, tls }) => tls !== undefined || listen.every(isPlain), {
    path: ["tls"],
    message:
      "an address of “listen” speaks TLS: give tls.certificateFile and tls.keyFile, or write http:// before an address of loopback",
  })
  .refine(({ listen }) => !listen.some(isPlainAndFar), {
    path: ["listen"],
    message:
      "the API is served without TLS on this computer alone: listen on http://127.0.0.1:PORT, or give api.tls and leave http:// out",
  })
  .refine(({ listen, tokens }) => listen.length === 0 || Object.keys(tokens).length > 0, {
    path: ["tokens"],
    message: "“listen” names an address, and nobody may ask there: give a token (docs/api.md)",
  })
  .meta({ reload: "restart" });
export type ApiConfig = z.infer<typeof ApiConfig>;
