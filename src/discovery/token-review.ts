/**
 * What an access token must be and may do for jobs by tag, judged in one place for the doctor, the set-up and the running daemon. Pure.
 */
import type { Scope, TokenFacts } from "../gitlab/rest-api.ts";
import { neededRoles, neededScopes, TOKEN_ENDS_SOON_MS } from "../gitlab/rest-api.ts";

export interface TokenFinding {
  /** `warn`: works, or may work; `fail`: jobs by tag cannot be run. */
  readonly level: "ok" | "warn" | "fail";
  readonly message: string;
  /** What to do about it. */
  readonly hint?: string;
}

/** What is to be said about a token by itself: a `fail` for each thing without which jobs by tag do not work. */
export function reviewToken(facts: TokenFacts, now: number): TokenFinding[] {
  return [...reviewLife(facts, now), ...reviewScopes(facts)];
}

function reviewLife({ name, username, active, expiresAt }: TokenFacts, now: number): TokenFinding[] {
  const who = `the token “${name}” of ${username}`;
  const hint = "Make a new one in GitLab (Settings → Access tokens).";
  const leftMs = expiresAt === null ? Number.POSITIVE_INFINITY : expiresAt - now;
  if (!active || leftMs <= 0) return [{ level: "fail", message: `${who} has expired or was revoked`, hint }];
  if (expiresAt === null) return [{ level: "ok", message: `${who} is valid for ever` }];
  const day = new Date(expiresAt).toISOString().slice(0, 10);
  if (leftMs > TOKEN_ENDS_SOON_MS) return [{ level: "ok", message: `${who} is valid until ${day}` }];
  return [{ level: "warn", message: `${who} ends soon, on ${day}`, hint }];
}

function reviewScopes({ scopes }: TokenFacts): TokenFinding[] {
  if (scopes.includes("api")) return [];
  return Object.entries(neededScopes)
    .filter(([scope]) => !scopes.includes(scope))
    .map(([scope, what]) => ({
      level: "fail",
      message: `the token lacks the scope ${scope}, which is needed ${what}`,
      hint: "Make a token with the scope api, or with read_api, create_runner and manage_runner.",
    }));
}

/** Whether the webhook can be installed with a token that may do all else; of no matter once the hook is there. */
export function reviewHookScope({ scopes }: TokenFacts): TokenFinding[] {
  const hasNarrow = Object.keys(neededScopes).every((scope) => scopes.includes(scope));
  if (scopes.includes("api") || !hasNarrow) return [];
  return [
    {
      level: "warn",
      message: "the token lacks the scope api: “firerunner webhook install” cannot make the hook with it",
      hint: "Make the hook by hand, as docs/webhooks.md says, or use a token with the scope api for that one command.",
    },
  ];
}

/**
 * Whether the token's user may make runners in a scope. Only an instance's administrator is known for certain: roles of an
 * installation's own may allow what the level does not, so for the others GitLab has the last word.
 */
export function reviewRole(
  scope: Scope,
  { username, isAdmin }: Pick<TokenFacts, "username" | "isAdmin">,
  level: number | undefined,
): TokenFinding {
  if (isAdmin) return { level: "ok", message: `${username} is an administrator` };
  if (scope.kind === "instance") {
    return {
      level: "fail",
      message: `${username} is no administrator, and only administrators make runners for a whole GitLab`,
      hint: "Use an administrator's token (with the scope admin_mode as well where Admin Mode is on), or serve a group or a project.",
    };
  }
  const needed = neededRoles[scope.kind];
  if (level !== undefined && level >= needed.level) {
    return { level: "ok", message: `${username} may make runners in ${scope.kind} ${scope.path}` };
  }
  const has = level === undefined ? "is no member of it" : `has the access level ${level} there`;
  return {
    level: "warn",
    message: `runners of ${scope.kind} ${scope.path} need the role ${needed.role}, and ${username} ${has}`,
    hint: `Give ${username} the role ${needed.role} there, or use another token.`,
  };
}
