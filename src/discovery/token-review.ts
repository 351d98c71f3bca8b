/**
 * What an access token must be and may do for jobs by tag: the rules, pure, in one place for the doctor, the set-up and the running daemon;
 * and the daemon's check of its own token, at start, every day, and when asked to.
 */
import type { Clock } from "../base/clock.ts";
import { describeError, hintOf } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { HOUR_MS, MINUTE_MS } from "../base/units.ts";
import { createWakeLoop } from "../base/wake-loop.ts";
import {
  type GitLabRest,
  neededRoles,
  neededScopes,
  type Scope,
  TOKEN_ENDS_SOON_MS,
  type TokenFacts,
} from "../gitlab/rest-api.ts";

interface TokenFinding {
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

const DAY_MS = 24 * HOUR_MS;
const RETRY_MS = 5 * MINUTE_MS;

interface TokenCheckOptions {
  readonly rest: Pick<GitLabRest, "tokenFacts" | "accessLevel">;
  readonly scope: () => Promise<Scope>;
  readonly clock: Clock;
  readonly log: Log;
}

interface TokenAssessment {
  /** Whose token it is, and until when. */
  readonly summary: string;
  /** What it lacks, each with what to do. */
  readonly problems: readonly string[];
}

export interface TokenCheck {
  start(): void;
  stop(): Promise<void>;
  /** Looks again soon: the token may be another. */
  wake(): void;
  /** Null before the first look. */
  status(): { summary: string; problems: string[] } | null;
  /** Epoch ms of the token's end; undefined for one without an end, and while it could not be read. */
  expiresAt(): number | undefined;
}

export function createTokenCheck(options: TokenCheckOptions): TokenCheck {
  const { rest, clock, log } = options;
  const ending = new AbortController();
  const loop = createWakeLoop(clock, tick);
  let assessment: TokenAssessment | undefined;
  let expiresAt: number | undefined;

  async function tick(): Promise<number> {
    try {
      const facts = await rest.tokenFacts(ending.signal);
      expiresAt = facts.expiresAt ?? undefined;
      const scope = await options.scope();
      const level = facts.isAdmin ? undefined : await rest.accessLevel(scope, facts.userId, ending.signal);
      const findings = [...reviewToken(facts, clock.now()), reviewRole(scope, facts, level)];
      settle({ summary: summaryOf(facts), problems: findings.flatMap(problemOf) });
      return clock.now() + DAY_MS;
    } catch (error) {
      if (ending.signal.aborted) return clock.now() + HOUR_MS;
      settle({ summary: "not known", problems: [describeReadFailure(error)] });
      return clock.now() + RETRY_MS;
    }
  }

  function settle(next: TokenAssessment): void {
    const before = assessment?.problems.join("\n") ?? "";
    assessment = next;
    if (next.problems.join("\n") === before) return;
    if (next.problems.length === 0) log.info({ token: next.summary }, "the API token may do what is needed");
    else log.warn({ token: next.summary, problems: next.problems }, "the API token needs attention");
  }

  return {
    start: loop.start,
    async stop() {
      ending.abort();
      await loop.stop();
    },
    wake: loop.wake,
    expiresAt: () => expiresAt,
    status: () => (assessment ? { summary: assessment.summary, problems: [...assessment.problems] } : null),
  };
}

function summaryOf({ name, username, expiresAt }: TokenFacts): string {
  const end =
    expiresAt === null ? "without an end" : `until ${new Date(expiresAt).toISOString().slice(0, 10)}`;
  return `“${name}” of ${username}, ${end}`;
}

/** What the doctor warns of or fails for, each with what to do. */
function problemOf({ level, message, hint }: TokenFinding): string[] {
  if (level === "ok") return [];
  return [hint === undefined ? message : `${message}. ${hint}`];
}

function describeReadFailure(error: unknown): string {
  const hint = hintOf(error);
  return `what it may do could not be read: ${describeError(error)}${hint ? ` (${hint})` : ""}`;
}
