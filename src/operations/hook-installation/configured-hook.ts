import { systemClock } from "../../base/clock.ts";
import type { Config } from "../../config/load.ts";
import { connectGitLab } from "../../gitlab/http.ts";
import { createGitLabRest } from "../../gitlab/rest.ts";
import { installHook } from "./hook-installer.ts";
import type { HookRequest, Step } from "./step.ts";

/** Installs the hook with the configuration's GitLab, API token and newest keys. `webhook` is that of `config`. */
export async function* installConfiguredHook(
  config: Pick<Config, "gitlab" | "proxy">,
  { secrets }: Pick<NonNullable<Config["webhook"]>, "secrets">,
  request: HookRequest,
): AsyncGenerator<Step> {
  const http = await connectGitLab(config);
  try {
    const token = () => secrets.apiToken;
    const rest = createGitLabRest({ http, clock: systemClock, version: "webhook-install", token });
    const [signingKey, plainToken] = [secrets.signingKeys[0], secrets.tokens[0]];
    yield* installHook({ ...request, rest, signingKey, token: plainToken, clock: systemClock });
  } finally {
    await http.close();
  }
}
