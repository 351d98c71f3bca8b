import type { Limit } from "../base/deadline.ts";
import { FireRunnerError } from "../base/errors.ts";
import { formatDuration } from "../base/units.ts";

export type SchedulerErrorCode =
  /** A call took longer than it may and was given up. */
  | "scheduler_deadline"
  /** FireRunner is ending; nothing is concluded from what was interrupted. */
  | "scheduler_stopped"
  /** What was being done is not wanted any more. */
  | "scheduler_superseded"
  /** A machine belongs to a driver that this program does not have. */
  | "scheduler_no_driver"
  /** The payload of an unfinished job is missing or cannot be read. */
  | "scheduler_no_payload";

/** What the scheduler itself gives up with. All of it is tried again by a later round. */
export class SchedulerError extends FireRunnerError {
  constructor(code: SchedulerErrorCode, message: string, options: ErrorOptions & { hint?: string } = {}) {
    super(code, message, { ...options, retryable: true });
  }
}

/** A time limit for a call; `doing` says what it does, for the error `scheduler_deadline`. */
export function limitOf(doing: string, limitMs: number, parent: AbortSignal): Limit {
  const words = () => `${doing} took longer than ${formatDuration(limitMs)}`;
  return { limitMs, parent, late: () => new SchedulerError("scheduler_deadline", words()) };
}
