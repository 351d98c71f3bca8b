/** `status --check`: the status as a program that watches wants it. Never fails: that there is no answer is an answer. */

import { systemClock } from "../base/clock.ts";
import { withDeadline } from "../base/deadline.ts";
import { describeError, FireRunnerError } from "../base/errors.ts";
import { formatDuration } from "../base/units.ts";
import {
  type CheckLimits,
  checkFailed,
  checkLevels,
  checkLine,
  checkStatus,
  type Verdict,
} from "../views/check.ts";
import { withDaemon } from "./client.ts";
import type { Context } from "./context.ts";
import { isAway, NoAnswer } from "./errors.ts";

export interface CheckOptions extends CheckLimits {
  /** How long an answer may take. */
  readonly timeoutMs: number;
}

/** Prints the line and returns its exit code. */
export async function printCheck(context: Context, options: CheckOptions): Promise<number> {
  const { output } = context;
  const verdict = await verdictOf(context, options);
  const code = checkLevels.indexOf(verdict.level);
  output.result({ code, ...verdict }, () => output.exact(checkLine(verdict)));
  return code;
}

async function verdictOf(context: Context, options: CheckOptions): Promise<Verdict> {
  const { timeoutMs } = options;
  const late = () => new NoAnswer(`FireRunner does not answer within ${formatDuration(timeoutMs)}`);
  try {
    const status = await withDaemon(
      context,
      async (daemon) =>
        await withDeadline(systemClock, { limitMs: timeoutMs, late, cleanUpMs: 0 }, () => daemon.status()),
    );
    return checkStatus(status, systemClock.now(), options);
  } catch (error) {
    if (isAway(error)) return checkFailed("critical", error.message);
    const hint = error instanceof FireRunnerError && error.hint ? ` (${error.hint})` : "";
    return checkFailed("unknown", `${describeError(error)}${hint}`);
  }
}
