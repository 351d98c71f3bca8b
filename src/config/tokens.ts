import type { Secret } from "../base/secret.ts";
import type { PathProblem } from "./problems.ts";
import type { Settings } from "./schema.ts";
import { checkRunnerToken } from "./secret-forms.ts";
import { readSecret, type SecretOptions } from "./secret-source.ts";

export interface Tokens {
  readonly byPool: ReadonlyMap<string, Secret>;
  readonly problems: readonly PathProblem[];
}

/** The runner token of every pool. Two pools with one token are refused: each claim would be a matter of chance. */
export async function readTokens(settings: Settings, options: SecretOptions): Promise<Tokens> {
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
