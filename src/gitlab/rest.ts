import { createTokenCalls } from "./access-token.ts";
import { createHookCalls } from "./hooks.ts";
import { createJobCalls } from "./jobs.ts";
import { createProjectCalls } from "./projects.ts";
import type { GitLabRest } from "./rest-api.ts";
import { createRestClient, type RestOptions } from "./rest-client.ts";
import { createRunnerCalls } from "./runners.ts";

/** GitLab's REST API with an access token. Nothing is tried twice in here. */
export function createGitLabRest(options: RestOptions): GitLabRest {
  const client = createRestClient(options);
  return {
    get budget() {
      return client.budget();
    },
    ...createTokenCalls(client),
    ...createProjectCalls(client),
    ...createJobCalls(client),
    ...createRunnerCalls(client),
    ...createHookCalls(client),
  };
}
