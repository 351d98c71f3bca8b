/** Whether the API token may do what the configuration needs of it: read at start, every day, and when asked to. */
import type { Clock } from "../base/clock.ts";
import { describeError, hintOf } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { HOUR_MS, MINUTE_MS } from "../base/units.ts";
import { createWakeLoop } from "../base/wake-loop.ts";
import type { GitLabRest, Scope, TokenFacts } from "../gitlab/rest-api.ts";
import { reviewRole, reviewToken, type TokenFinding } from "./token-review.ts";

const DAY_MS = 24 * HOUR_MS;
const RETRY_MS = 5 * MINUTE_MS;

export interface TokenCheckOptions {
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
}

export function createTokenCheck(options: TokenCheckOptions): TokenCheck {
  const { rest, clock, log } = options;
  const ending = new AbortController();
  const loop = createWakeLoop(clock, tick);
  let assessment: TokenAssessment | undefined;

  async function tick(): Promise<number> {
    try {
      const facts = await rest.tokenFacts(ending.signal);
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
