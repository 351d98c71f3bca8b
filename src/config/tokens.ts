import type { Secret } from "../base/secret.ts";
import type { PathProblem } from "./problems.ts";
import type { Settings } from "./schema.ts";
import { checkToken, readTokenFile, type TokenFileOptions } from "./secret-file.ts";
import type { Path } from "./source.ts";

export interface Tokens {
  readonly byPool: ReadonlyMap<string, Secret>;
  readonly problems: readonly PathProblem[];
}

interface TokenOptions extends TokenFileOptions {
  /** Why a token may not stand where it stands; undefined when it may. */
  readonly inlineProblem: (path: Path) => string | undefined;
}

/** The runner token of every pool. Two pools with one token are refused: each claim would be a matter of chance. */
export async function readTokens(settings: Settings, options: TokenOptions): Promise<Tokens> {
  const byPool = new Map<string, Secret>();
  const ownerOf = new Map<string, string>();
  const problems: PathProblem[] = [];
  for (const [pool, { runner }] of Object.entries(settings.pools)) {
    if (runner === undefined) continue;
    const path = ["pools", pool, "runner", runner.token === undefined ? "tokenFile" : "token"];
    const answer = await tokenOf(runner, path, options);
    if ("problem" in answer) {
      problems.push({ path, message: answer.problem });
      continue;
    }
    const owner = ownerOf.get(answer.token.reveal());
    if (owner !== undefined) {
      problems.push({
        path,
        message: `pools ${owner} and ${pool} have the same runner token: give each pool a GitLab runner of its own`,
      });
      continue;
    }
    ownerOf.set(answer.token.reveal(), pool);
    byPool.set(pool, answer.token);
  }
  return { byPool, problems };
}

async function tokenOf(
  runner: { token?: string | undefined; tokenFile?: string | undefined },
  path: readonly string[],
  options: TokenOptions,
): ReturnType<typeof readTokenFile> {
  if (runner.token === undefined) return await readTokenFile(runner.tokenFile ?? "", options);
  const problem = options.inlineProblem(path);
  return problem ? { problem } : checkToken(runner.token.trim(), path.join("."));
}
