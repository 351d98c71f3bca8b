import type { Clock } from "../../src/base/clock.ts";
import { Secret } from "../../src/base/secret.ts";
import { GitLabError } from "../../src/gitlab/errors.ts";
import type { ApiRunner, GitLabRest, NewApiRunner } from "../../src/gitlab/rest-api.ts";
import type { RunnerApi } from "../../src/gitlab/runner-api.ts";

interface RunnerRecord extends ApiRunner {
  tags: readonly string[];
  token: string;
  tokenExpiresAt: number;
}

type Rest = Pick<
  GitLabRest,
  "createRunner" | "restoreRunner" | "runnersOf" | "deleteRunner" | "hasRunningJobs"
>;
type Api = Pick<RunnerApi, "verify" | "resetToken">;

/** GitLab as far as managing runners goes: in memory, outliving whoever asks, and strict about what a good client never does. */
export interface ManagingGitLab {
  readonly rest: Rest;
  readonly api: Api;
  readonly runners: Map<number, RunnerRecord>;
  /** Runners that have a job. */
  readonly busy: Set<number>;
  /** What nobody may do and somebody did. */
  readonly violations: string[];
  /** How long after the request a new runner is there, and answered for. */
  creationMs: number;
  /** Called when a request for a new runner has arrived. */
  onCreateRequest: () => void;
}

export function aManagingGitLab(clock: Clock, tokenLifeMs: number): ManagingGitLab {
  const runners = new Map<number, RunnerRecord>();
  const busy = new Set<number>();
  const violations: string[] = [];
  let ids = 0;
  let tokens = 0;

  function give(): { token: string; tokenExpiresAt: number } {
    return { token: `glrt-${++tokens}`, tokenExpiresAt: clock.now() + tokenLifeMs };
  }

  function holder(token: Secret): RunnerRecord {
    const found = [...runners.values()].find((each) => each.token === token.reveal());
    if (found && found.tokenExpiresAt > clock.now()) return found;
    throw new GitLabError(
      "gitlab_wrong_token",
      "asking with a runner's token: GitLab does not know it (403)",
    );
  }

  const gitlab: ManagingGitLab = {
    ...{ runners, busy, violations },
    creationMs: 0,
    onCreateRequest: () => {},
    rest: {
      async createRunner({ description, tags }: NewApiRunner) {
        gitlab.onCreateRequest();
        if (gitlab.creationMs > 0) await clock.sleep(gitlab.creationMs);
        const id = ++ids;
        const given = give();
        runners.set(id, { id, description, tags, paused: false, online: true, ...given });
        return { id, token: new Secret(given.token), tokenExpiresAt: given.tokenExpiresAt };
      },
      async restoreRunner(id, { tags }) {
        const runner = runners.get(id);
        if (runner) runner.tags = tags;
      },
      runnersOf: async () => [...runners.values()],
      async deleteRunner(id) {
        if (busy.has(id)) violations.push(`runner ${id} was deleted while it had a job`);
        runners.delete(id);
      },
      hasRunningJobs: async (id) => busy.has(id),
    },
    api: {
      async verify(token) {
        const { id, tokenExpiresAt } = holder(token);
        return { id, tokenExpiresAt };
      },
      async resetToken(token) {
        const { token: next, tokenExpiresAt } = Object.assign(holder(token), give());
        return { token: new Secret(next), tokenExpiresAt };
      },
    },
  };
  return gitlab;
}
