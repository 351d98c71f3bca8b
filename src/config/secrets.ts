import type { Secret } from "../base/secret.ts";
import type { WebhookConfig, WebhookSecrets } from "../discovery/config.ts";
import type { GitLabConfig } from "../gitlab/config.ts";
import type { GuestsConfig } from "../guest/config.ts";
import type { RelaySettings } from "../relay/config.ts";
import type { HttpConfig } from "../server/config.ts";
import type { FlintlockHost } from "../vm/flintlock/host.ts";
import { readHosts } from "./hosts.ts";
import type { PathProblem } from "./problems.ts";
import type { Settings } from "./schema.ts";
import type { SecretOptions } from "./secret-source.ts";
import { findTlsFiles } from "./tls-files.ts";
import { readTokens } from "./tokens.ts";
import { readWebhookSecrets } from "./webhook-secrets.ts";

/** `webhook` with its secrets read. */
export type Webhook = Omit<WebhookConfig, "apiToken" | "signingKey" | "token"> & {
  readonly secrets: WebhookSecrets;
};

/** Everything of a configuration that lies in other files or must not be shown. */
export interface ReadSecrets {
  /** Runner tokens by pool. */
  readonly tokens: ReadonlyMap<string, Secret>;
  /** Undefined when there is none, or a problem with it. */
  readonly webhook: Webhook | undefined;
  /** These with the places at which their files were found. */
  readonly gitlab: GitLabConfig;
  readonly guests: GuestsConfig;
  readonly http: HttpConfig;
  /** Hosts of the flintlock driver, by name. */
  readonly hosts: ReadonlyMap<string, FlintlockHost>;
  readonly relay: RelaySettings;
  readonly problems: readonly PathProblem[];
}

export async function readSecrets(settings: Settings, options: SecretOptions): Promise<ReadSecrets> {
  const tokens = await readTokens(settings, options);
  const webhook = settings.webhook && (await readWebhook(settings.webhook, options));
  const { http, relay } = settings;
  const ofDoor = http.tls && (await findTlsFiles(["http", "tls"], http.tls, options));
  const ofRelay = relay.tls && (await findTlsFiles(["relay", "tls"], relay.tls, options));
  const { url, ...gitlabFiles } = settings.gitlab;
  const ofGitLab = await findTlsFiles(["gitlab"], gitlabFiles, options);
  const ofGuests = await findTlsFiles(["guests"], settings.guests, options);
  const hosts = await readHosts(settings.vm.flintlock.hosts, options);
  return {
    tokens: tokens.byPool,
    hosts: hosts.hosts,
    webhook: webhook?.value,
    gitlab: { url, ...ofGitLab.files },
    guests: ofGuests.files,
    http: ofDoor ? { ...http, tls: ofDoor.files } : http,
    relay: ofRelay ? { ...relay, tls: ofRelay.files } : relay,
    problems: [tokens, webhook, ofGitLab, ofGuests, ofDoor, ofRelay, hosts].flatMap(
      (each) => each?.problems ?? [],
    ),
  };
}

async function readWebhook(
  webhook: WebhookConfig,
  options: SecretOptions,
): Promise<{ value: Webhook | undefined; problems: readonly PathProblem[] }> {
  const { secrets, problems } = await readWebhookSecrets(webhook, options);
  const { apiToken: _apiToken, signingKey: _signingKey, token: _token, ...rest } = webhook;
  return { value: secrets && { ...rest, secrets }, problems };
}
