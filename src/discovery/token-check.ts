/** Whether the API token may do what the configuration needs of it: read at start, every day, and when asked to. */
import type { Clock } from "../base/clock.ts";
import { describeError, FireRunnerError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { formatDuration, HOUR_MS } from "../base/units.ts";
import { createWakeLoop } from "../base/wake-loop.ts";
import type { GitLabRest, Scope, TokenFacts } from "../gitlab/rest-api.ts";
import { neededRoles, neededScopes, TOKEN_ENDS_SOON_MS } from "../gitlab/token-needs.ts";

const DAY_MS = 24 * HOUR_MS;
const RETRY_MS = 5 * 60_000;

export interface TokenCheckOptions {
  readonly rest: Pick<GitLabRest, "tokenFacts" | "accessLevel">;
  readonly scope: () => Promise<Scope>;
  readonly clock: Clock;
  readonly log: Log;
}

interface TokenStanding {
  /** Whose token it is, and until when. */
  readonly summary: string;
  /** What it lacks, in words, each with what to do. */
  readonly problems: readonly string[];
}

export interface TokenCheck {
  start(): void;
  stop(): Promise<void>;
  /** Looks again soon: the token may be another. */
  wake(): void;
  /** Null before the first look. */
  status(): { summary: string; problems: string[] } | null;
}

export function createTokenCheck(options: TokenCheckOptions): TokenCheck {
  const { rest, clock, log } = options;
  const ending = new AbortController();
  const loop = createWakeLoop(clock, tick);
  let standing: TokenStanding | undefined;

  async function tick(): Promise<number> {
    try {
      const facts = await rest.tokenFacts(ending.signal);
      settle({
        summary: summaryOf(facts),
        problems: [...judge(facts, clock.now()), ...(await judgeRole(facts))],
      });
      return clock.now() + DAY_MS;
    } catch (error) {
      if (ending.signal.aborted) return clock.now() + HOUR_MS;
      settle({ summary: "not known", problems: [inWords(error)] });
      return clock.now() + RETRY_MS;
    }
  }

  async function judgeRole({ userId, username, isAdmin }: TokenFacts): Promise<string[]> {
    const scope = await options.scope();
    if (isAdmin) return [];
    if (scope.kind === "instance") {
      return [
        `${username} is no administrator, as runners of a whole GitLab need: use an administrator's token`,
      ];
    }
    const { level, role } = neededRoles[scope.kind];
    const has = await rest.accessLevel(scope, userId, ending.signal);
    if (has !== undefined && has >= level) return [];
    const what = has === undefined ? "is no member" : `has only the access level ${has}`;
    return [
      `${username} ${what} in ${scope.kind} ${scope.path}: runners are made there by its ${role} (${level}); give the user that role`,
    ];
  }

  function settle(next: TokenStanding): void {
    const before = standing?.problems.join("\n") ?? "";
    standing = next;
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
    status: () => (standing ? { summary: standing.summary, problems: [...standing.problems] } : null),
  };
}

function summaryOf({ name, username, expiresAt }: TokenFacts): string {
  const end =
    expiresAt === null ? "without an end" : `until ${new Date(expiresAt).toISOString().slice(0, 10)}`;
  return `“${name}” of ${username}, ${end}`;
}

function judge({ scopes, active, expiresAt }: TokenFacts, now: number): string[] {
  if (!active || (expiresAt !== null && expiresAt <= now)) {
    return [
      "it has expired or was revoked: make another in GitLab and put it where webhook.apiToken is configured",
    ];
  }
  const missing = Object.entries(neededScopes).filter(
    ([scope]) => !scopes.includes(scope) && !scopes.includes("api"),
  );
  const ofScopes = missing.map(
    ([scope, why]) =>
      `it lacks the scope ${scope}, ${why}: make a token with api, or with ${Object.keys(neededScopes).join(", ")}`,
  );
  if (expiresAt === null || expiresAt - now > TOKEN_ENDS_SOON_MS) return ofScopes;
  return [...ofScopes, `it expires in ${formatDuration(expiresAt - now)}: make another in time, and reload`];
}

function inWords(error: unknown): string {
  const hint = error instanceof FireRunnerError ? error.hint : undefined;
  return `what it may do could not be read: ${describeError(error)}${hint ? ` (${hint})` : ""}`;
}
