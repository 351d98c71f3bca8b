/** The secrets of the configuration, read from their files, and what each must look like. Everything said here names a secret's place and never its text. */
import { Secret } from "../base/secret.ts";
import type { WebhookConfig, WebhookSecrets } from "../discovery/config.ts";
import type { GitLabConfig } from "../gitlab/config.ts";
import type { GuestsConfig } from "../guest/config.ts";
import type { RelaySettings } from "../relay/config.ts";
import type { ApiSettings } from "../server/api/config.ts";
import type { HttpConfig } from "../server/config.ts";
import type { MetricsSettings } from "../server/metrics/config.ts";
import type { FlintlockHost } from "../vm/flintlock/config.ts";
import { readHosts } from "./hosts.ts";
import { type Check, type Checked, findTlsFiles, readSecret, type SecretOptions } from "./named-files.ts";
import { readApi, readMetrics } from "./private-servers.ts";
import type { PathProblem } from "./problems.ts";
import type { Settings } from "./schema.ts";
import { oneLineProblem, otherKind, SIGNING_TOKEN } from "./token-text.ts";

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
  readonly metrics: MetricsSettings;
  readonly api: ApiSettings;
  readonly problems: readonly PathProblem[];
}

export async function readSecrets(settings: Settings, options: SecretOptions): Promise<ReadSecrets> {
  const tokens = await readTokens(settings, options);
  const webhook = settings.webhook && (await readWebhook(settings.webhook, options));
  const { http, relay } = settings;
  const metrics = await readMetrics(settings.metrics, options);
  const api = await readApi(settings.api, options);
  const ofServer = http.tls && (await findTlsFiles(["http", "tls"], http.tls, options));
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
    http: ofServer ? { ...http, tls: ofServer.files } : http,
    relay: ofRelay ? { ...relay, tls: ofRelay.files } : relay,
    metrics: metrics.value,
    api: api.value,
    problems: [tokens, webhook, ofGitLab, ofGuests, ofServer, ofRelay, metrics, api, hosts].flatMap(
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

/** The authentication token of a GitLab runner. */
function checkRunnerToken(text: string, where: string): Checked<Secret> {
  if (text === "")
    return { problem: `${where} is empty: put the runner's authentication token (glrt-…) into it` };
  const problem = oneLineProblem(text, where);
  if (problem) return { problem };
  const other = otherKind(text, ["glrt-", "glrtr-"]);
  if (other === undefined) return { value: new Secret(text) };
  return {
    problem: `${where} holds ${other}: create a runner in GitLab (Settings → CI/CD → Runners) and use its authentication token (glrt-…)`,
  };
}

/** An access token of GitLab's API: personal, of a group, or of a project. */
export function checkApiToken(text: string, where: string): Checked<Secret> {
  if (text === "") return { problem: `${where} is empty: put an access token of GitLab's API into it` };
  const problem = oneLineProblem(text, where);
  if (problem) return { problem };
  const other = otherKind(text, ["glpat-"]);
  if (other === undefined) return { value: new Secret(text) };
  return {
    problem: `${where} holds ${other}: create an access token in GitLab (Settings → Access tokens) with the scope api`,
  };
}

/** 32 bytes in Base64, which is what GitLab makes and takes. */
const signingKey = /^whsec_[A-Za-z0-9+/]{43}=$/;

/** The signing tokens of a webhook, separated by white space. */
export function checkSigningKeys(text: string, where: string): Checked<readonly Secret[]> {
  const keys = wordsOf(text);
  if (keys.length === 0)
    return { problem: `${where} is empty: put the hook's signing token (whsec_…) into it` };
  if (keys.every((key) => signingKey.test(key))) return { value: keys.map((key) => new Secret(key)) };
  const which = keys.length === 1 ? where : `one of the keys in ${where}`;
  const other = keys.map((key) => otherKind(key, ["whsec_"])).find((each) => each !== undefined);
  return {
    problem: other
      ? `${where} holds ${other}: put the hook's signing token (whsec_…) into it`
      : `${which} is no signing token: expected whsec_ and 32 bytes in Base64, as GitLab shows it or “firerunner webhook install” makes it`,
  };
}

const SHORTEST_TOKEN = 8;

/** The plain secret tokens of a webhook, separated by white space. */
function checkHookTokens(text: string, where: string): Checked<readonly Secret[]> {
  const tokens = wordsOf(text);
  if (tokens.length === 0) return { problem: `${where} is empty: put the hook's secret token into it` };
  const which = tokens.length === 1 ? where : `one of the tokens in ${where}`;
  if (tokens.some((token) => !/^[\x21-\x7e]+$/.test(token))) {
    return { problem: `${which} has letters that a header of HTTP does not carry: use ASCII` };
  }
  const other = tokens.map((token) => otherKind(token, [])).find((each) => each !== undefined);
  if (other) return { problem: `${where} holds ${other}: ${whatInstead(other)}` };
  if (tokens.some((token) => token.length < SHORTEST_TOKEN)) {
    return {
      problem: `${which} is too short, for it is all that proves a webhook: use ${SHORTEST_TOKEN} characters at least, better 32`,
    };
  }
  return { value: tokens.map((token) => new Secret(token)) };
}

function whatInstead(kind: string): string {
  return kind === SIGNING_TOKEN
    ? "put it into webhook.signingKeyFile"
    : "put a secret of the hook's own into it, never one that opens something else";
}

function wordsOf(text: string): string[] {
  return [...new Set(text.split(/\s+/).filter((word) => word !== ""))];
}
