/**
 * What a well-behaved runner never does. The stand-in answers as GitLab would and remembers it here, so that a test can ask
 * at its end that there was none.
 */
type ViolationRule =
  /** A path or method that no runner calls. */
  | "unknown-route"
  /** A body or header that GitLab refuses with 400. */
  | "bad-request"
  /** A token nobody has, or one that is not good for this. */
  | "wrong-token"
  /** A job request that does not say what the runner is and can do. */
  | "no-runner-info"
  /** A final update or log for a job whose end was already acknowledged, and which was not canceled. */
  | "update-after-end"
  /** As above, but only a `running` heartbeat. */
  | "heartbeat-after-end"
  /** A log that does not continue where GitLab's ends (416). */
  | "trace-range"
  /** A repeated range with other bytes than the first time. */
  | "trace-changed"
  /** The final update names another checksum or size than the log has. */
  | "trace-checksum"
  /** A final update that was answered 202 came again with other contents. */
  | "update-changed"
  /** More requests than GitLab allows in a minute (429). */
  | "rate-limit"
  /** A runner deleted while one of its jobs was unfinished: from then on nobody in GitLab watches that job. */
  | "runner-deleted-early"
  /** A second artifact of one type. */
  | "duplicate-artifact"
  /** Credentials of GitLab in an address, or sent to the object storage. The official runner does the latter, too; a relay must not. */
  | "leaked-credentials";

export interface Violation {
  readonly at: number;
  readonly rule: ViolationRule;
  readonly detail: string;
  readonly jobId: number | undefined;
}

export type ReportViolation = (rule: ViolationRule, detail: string, jobId?: number) => void;
