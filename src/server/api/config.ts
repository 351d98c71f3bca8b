import { z } from "zod";
import type { Secret } from "../../base/secret.ts";
import { listeningPrivately, privateServerKeys } from "../network/config.ts";
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

const section = z.strictObject({
  ...privateServerKeys("the API is"),
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
});

/** `api`: what the command line shows and does, over the network. Nothing listens unless `listen` names an address. */
export const ApiConfig = listeningPrivately(section, "api", "the API is")
  .refine(({ listen, tokens }) => listen.length === 0 || Object.keys(tokens).length > 0, {
    path: ["tokens"],
    message: "“listen” names an address, and nobody may ask there: give a token (docs/api.md)",
  })
  .meta({ reload: "restart" });
export type ApiConfig = z.infer<typeof ApiConfig>;

/** With what its token files hold. */
export interface ApiSettings extends Omit<ApiConfig, "tokens"> {
  readonly tokens: ReadonlyMap<string, ApiToken>;
}
