import type { Clock } from "./clock.ts";
import { MINUTE_MS } from "./units.ts";

/**
 * What modules need of a logger: constant messages with fields. pino fits; `silentLog` is for tests. WARN and ERROR
 * messages are constant strings so that they group.
 */
export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
  child(fields: object): Log;
}

export const silentLog: Log = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  child: () => silentLog,
};

/** Lines in a window, however many kinds there are. */
const MOST_LINES = 30;
const OTHERS = "others";

const levels = ["debug", "info", "warn", "error"] as const;
type Level = (typeof levels)[number];

/** Lines that somebody else can cause at will: the first of each kind and minute is written, the others are counted. */
export interface SampledLog {
  /** `kind` says which lines are the same, such as a client's address and the message. */
  write(level: Level, kind: string, fields: object, message: string): void;
  /**
   * Writes how many lines were left out, when the minute has passed, at the highest level among them: whom the lines would not have been
   * shown to, their count is not shown to either. The next `write` does so too.
   */
  tick(): void;
  /** The same, at once. */
  flush(): void;
}

interface SampledLogOptions {
  readonly log: Log;
  readonly clock: Pick<Clock, "now">;
  /** The line that says how many were left out: its fields are `count`, and `kinds` with the count of each. */
  readonly leftOut: string;
  /** Default a minute. */
  readonly windowMs?: number;
}

export function createSampledLog(options: SampledLogOptions): SampledLog {
  const { log, clock, leftOut, windowMs = MINUTE_MS } = options;
  /** How many of each kind were left out. */
  let seen = new Map<string, number>();
  let highest: Level = "debug";
  let lines = 0;
  let startedAt = clock.now();

  function flush(): void {
    const kinds = [...seen].filter(([, count]) => count > 0);
    const count = kinds.reduce((sum, [, each]) => sum + each, 0);
    if (count > 0) log[highest]({ count, kinds: Object.fromEntries(kinds) }, leftOut);
    seen = new Map();
    highest = "debug";
    lines = 0;
    startedAt = clock.now();
  }

  function tick(): void {
    // A clock that was set back must not silence it.
    if (Math.abs(clock.now() - startedAt) >= windowMs) flush();
  }

  return {
    write(level, kind, fields, message) {
      tick();
      const before = seen.get(kind);
      if (before === undefined && lines < MOST_LINES) {
        seen.set(kind, 0);
        lines += 1;
        log[level](fields, message);
        return;
      }
      if (levels.indexOf(level) > levels.indexOf(highest)) highest = level;
      const counted = before === undefined ? OTHERS : kind;
      seen.set(counted, (seen.get(counted) ?? 0) + 1);
    },
    tick,
    flush,
  };
}
