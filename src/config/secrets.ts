import type { Secret } from "../base/secret.ts";
import type { WebhookConfig, WebhookSecrets } from "../discovery/config.ts";
import type { GitLabConfig } from "../gitlab/config.ts";
import type { GuestsConfig } from "../guest/config.ts";
import type { RelaySettings } from "../relay/config.ts";
import type { HttpConfig } from "../server/config.ts";
import type { FlintlockHost } from "../vm/flintlock/host.ts";
import { readHosts } from "./hosts.ts";
import { type Check, findTlsFiles, readSecret, type SecretOptions } from "./named-files.ts";
import type { PathProblem } from "./problems.ts";
import type { Settings } from "./schema.ts";
import { checkApiToken, checkHookTokens, checkRunnerToken, checkSigningKeys } from "./secret-forms.ts";

/** `webhook` with its secrets read. */
export type Webhook = Omit<WebhookConfig, "apiToken" | "signingKey" | "token"> & {
  readonly secrets: WebhookSecrets;
};

/** Everything of a configuration that lies in other files or must not be shown. */
interface ReadSecrets {
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

interface Tokens {
  readonly byPool: ReadonlyMap<string, Secret>;
  readonly problems: readonly PathProblem[];
}

/** The runner token of every pool. Two pools with one token are refused: each claim would be a matter of chance. */
async function readTokens(settings: Settings, options: SecretOptions): Promise<Tokens> {
  const byPool = new Map<string, Secret>();
  const ownerOf = new Map<string, string>();
  const problems: PathProblem[] = [];
  for (const [pool, { runner }] of Object.entries(settings.pools)) {
    if (runner === undefined) continue;
    const path = ["pools", pool, "runner", runner.token === undefined ? "tokenFile" : "token"];
    const answer = await readSecret(
      { at: ["pools", pool, "runner"], key: "token", from: runner },
      checkRunnerToken,
      options,
    );
    if ("problem" in answer) {
      problems.push({ path, message: answer.problem });
      continue;
    }
    const owner = ownerOf.get(answer.value.reveal());
    if (owner !== undefined) {
      problems.push({
        path,
        message: `pools ${owner} and ${pool} have the same runner token: give each pool a GitLab runner of its own`,
      });
      continue;
    }
    ownerOf.set(answer.value.reveal(), pool);
    byPool.set(pool, answer.value);
  }
  return { byPool, problems };
}

type SecretKey = "apiToken" | "signingKey" | "token";

interface ReadWebhookSecrets {
  /** Undefined when there is a problem. */
  readonly secrets: WebhookSecrets | undefined;
  readonly problems: readonly PathProblem[];
}

/** The API token and what proves webhooks, wherever they stand. */
async function readWebhookSecrets(
  webhook: WebhookConfig,
  options: SecretOptions,
): Promise<ReadWebhookSecrets> {
  const problems: PathProblem[] = [];
  const secrets = {
    apiToken: await read("apiToken", checkApiToken),
    signingKeys: await read("signingKey", checkSigningKeys),
    tokens: await read("token", checkHookTokens),
  };
  const { apiToken, signingKeys = [], tokens = [] } = secrets;
  const complete = apiToken !== undefined && problems.length === 0;
  return { secrets: complete ? { apiToken, signingKeys, tokens } : undefined, problems };

  async function read<T>(key: SecretKey, check: Check<T>): Promise<T | undefined> {
    const fileKey = `${key}File` as const;
    if (webhook[key] === undefined && webhook[fileKey] === undefined) return undefined;
    const answer = await readSecret({ at: ["webhook"], key, from: webhook }, check, options);
    if ("value" in answer) return answer.value;
    const path = ["webhook", webhook[key] === undefined ? fileKey : key];
    problems.push({ path, message: answer.problem });
    return undefined;
  }
}
