/** What a test lets go wrong with requests, and what the stand-in has seen clients do wrong. */
export type RouteName =
  | "verify"
  | "request-job"
  | "update-job"
  | "append-trace"
  | "upload-artifact"
  | "download-artifact"
  | "git"
  | "version"
  | "delete-runner-by-token"
  | "reset-runner-token"
  | "rest-token"
  | "rest-user"
  | "rest-group"
  | "rest-group-projects"
  | "rest-project"
  | "rest-projects"
  | "rest-member"
  | "rest-jobs"
  | "rest-job"
  | "rest-create-runner"
  | "rest-list-runners"
  | "rest-show-runner"
  | "rest-update-runner"
  | "rest-delete-runner"
  | "rest-runner-jobs"
  | "rest-hooks"
  | "rest-hook-test";

/** What goes wrong with one request. Exactly as a test needs it; without `after`, nothing of the request is processed. */
export type Fault =
  /** Answered with this instead. `html` sends a proxy's error page. */
  | {
      readonly kind: "status";
      readonly status: number;
      readonly headers?: Readonly<Record<string, string>>;
      readonly html?: boolean;
    }
  /** Processed after a wait. */
  | { readonly kind: "delay"; readonly ms: number }
  /** The connection is cut before anything is processed. */
  | { readonly kind: "cut" }
  /** Processed, and the connection is cut instead of the answer. */
  | { readonly kind: "lose-answer" }
  /** Processed, and the connection is cut in the middle of the answer's body. */
  | { readonly kind: "cut-body" }
  /** Processed; the answer's body comes in ten pieces over this time. */
  | { readonly kind: "slow-body"; readonly ms: number };

interface FaultOptions {
  /** How many requests it hits; 1 unless told. */
  readonly times?: number;
  readonly jobId?: number;
}

export interface Faults {
  /** Arms `fault` for the next requests on `route`; `rest` is every route of the REST API. Faults of one route are used up in the order they were added. */
  add(route: RouteName | "any" | "rest", fault: Fault, options?: FaultOptions): void;
  /** Uses up and returns the fault for this request. */
  take(route: RouteName, jobId: number | undefined): Fault | undefined;
  /** How many armed hits are left. */
  left(): number;
  clear(): void;
}

interface Armed {
  readonly route: RouteName | "any" | "rest";
  readonly fault: Fault;
  readonly jobId: number | undefined;
  left: number;
}

export function createFaults(): Faults {
  let armed: Armed[] = [];

  return {
    add(route, fault, options = {}) {
      armed.push({ route, fault, jobId: options.jobId, left: options.times ?? 1 });
    },
    take(route, jobId) {
      const hit = armed.find(
        (each) => covers(each.route, route) && (each.jobId === undefined || each.jobId === jobId),
      );
      if (!hit) return undefined;
      hit.left--;
      armed = armed.filter((each) => each.left > 0);
      return hit.fault;
    },
    left: () => armed.reduce((sum, each) => sum + each.left, 0),
    clear() {
      armed = [];
    },
  };
}

function covers(armed: Armed["route"], route: RouteName): boolean {
  return armed === "any" || armed === route || (armed === "rest" && route.startsWith("rest-"));
}

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
