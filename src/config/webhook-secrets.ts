import type { WebhookConfig, WebhookSecrets } from "../discovery/config.ts";
import type { PathProblem } from "./problems.ts";
import type { Check } from "./secret-file.ts";
import { checkApiToken, checkHookTokens, checkSigningKeys } from "./secret-forms.ts";
import { readSecret, type SecretOptions } from "./secret-source.ts";

type SecretKey = "apiToken" | "signingKey" | "token";

export interface ReadWebhookSecrets {
  /** Undefined when there is a problem. */
  readonly secrets: WebhookSecrets | undefined;
  readonly problems: readonly PathProblem[];
}

/** The API token and what proves webhooks, wherever they stand. */
export async function readWebhookSecrets(
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
