import type { Config } from "../../config/load.ts";
import { ConfigError } from "../../config/source.ts";

/** Throws ConfigError for a configuration without jobs by tag. */
export function requireWebhook({ webhook, file }: Config): NonNullable<Config["webhook"]> {
  if (webhook) return webhook;
  throw new ConfigError("config_invalid", "the configuration has no “webhook”", {
    hint: `docs/webhooks.md shows what to add to ${file ?? "the configuration"}: an API token, a signing key, an address to listen on.`,
  });
}
