/** How jobs end, and the words for it: one place for GitLab's log, `why`, the lists and the records. */
import type { JobResult } from "./states.ts";

/** `Job-Status` values that say a job has ended. */
export function isJobResult(status: string | undefined): status is Exclude<JobResult, "unknown"> {
  return status === "success" || status === "failed" || status === "canceled";
}

/** What `Job-Status` says about the end of a job that GitLab no longer accepts anything for. */
export function resultOfStatus(status: string | undefined): JobResult {
  return isJobResult(status) ? status : "unknown";
}

/**
 * What GitLab said, and not the job's own script or FireRunner, as the end of a job. `failed` without a word from the job's runner is
 * GitLab's own doing: it looks after jobs as well.
 */
export function endByGitLab(result: JobResult): JobEnding {
  if (result === "canceled") return { reason: "canceled in GitLab" };
  if (result === "unknown") return { reason: "GitLab no longer takes anything for this job" };
  return result === "failed" ? { reason: "GitLab ended it as failed by itself", cause: "gitlab" } : {};
}

/** What a job's failure is to be blamed on. Kept in its row; the words for each are in `failures`. */
export type FailureCause =
  /** Its own script. */
  | "script"
  | "time-limit"
  | "log-limit"
  /** Its machine had too little of it, or the host. */
  | "memory"
  | "host-disk"
  /** The computer its machine was on, or the way there. */
  | "host-lost"
  /** Anything else that became of its machine: crashed, killed, silent, powered off. */
  | "machine"
  | "never-started"
  /** Nothing configured here could ever run it. */
  | "unservable"
  /** An image that it names cannot be had: there is none, it may not have it, or it is not fit for use. */
  | "image"
  /** An image that it names could not be had now. */
  | "image-fetch"
  /** FireRunner was told to end. */
  | "shutdown"
  /** The runner in the machine gave up. */
  | "runner"
  /** GitLab ended it by itself. */
  | "gitlab";

/** Why FireRunner fails a job: in words, and what is to blame. */
export interface JobFailure {
  readonly reason: string;
  readonly cause: FailureCause;
}

/** As much of it as is known of a job that GitLab has the end of. A script that failed needs no reason. */
export interface JobEnding extends Partial<JobFailure> {
  /** When its runner told of it (epoch ms), for the first time if it had to repeat it; left out where it did not, or nobody knows any more. */
  readonly toldAt?: number;
}

export interface FailureMessage {
  /** GitLab's `failure_reason`: decides what “retry:when” of the job does. */
  readonly failureReason: "script_failure" | "job_execution_timeout" | "runner_system_failure";
  /** Behind `failed` in lists; empty for the job's own script. */
  readonly label: string;
  /** “Job 4711 … after 3 s.” */
  readonly summary: string;
  /** For the job's author, in the job's log after the reason. */
  readonly hint: string;
  /** For whoever runs FireRunner, most useful first. */
  readonly advice: readonly string[];
  /** The job itself was not at fault: the same job may well succeed the next time. */
  readonly isWorthRetry: boolean;
}

const moreTime =
  "Give the job more time (its own “timeout:”, the limits of its project and runner in GitLab), or find out what it waits for: the end of its log shows how far it came.";
const moreMemory =
  "Give the job a machine with more memory (another pool or size), or let it do less at one time.";

export const failures: Readonly<Record<FailureCause, FailureMessage>> = {
  script: {
    failureReason: "script_failure",
    label: "",
    summary: "failed",
    hint: "",
    advice: [
      "Its own script failed: the job's log in GitLab says where. FireRunner and its machine worked as they should.",
    ],
    isWorthRetry: false,
  },
  "time-limit": {
    failureReason: "job_execution_timeout",
    label: "time limit",
    summary: "was ended at its time limit",
    hint: moreTime,
    advice: [moreTime],
    isWorthRetry: false,
  },
  "log-limit": {
    failureReason: "runner_system_failure",
    label: "log limit",
    summary: "was ended for the length of its log",
    hint: "Let the job write less, or into a file that it keeps as an artifact.",
    advice: ["Let the job write less, or raise “relay.traceLimit” together with GitLab's own limit."],
    isWorthRetry: false,
  },
  memory: {
    failureReason: "runner_system_failure",
    label: "memory",
    summary: "was ended by want of memory",
    hint: moreMemory,
    advice: [
      moreMemory,
      "Where it was the host that had none left, promise less of it: “vm.memoryReserve” is what is kept for it.",
    ],
    isWorthRetry: false,
  },
  "host-disk": {
    failureReason: "runner_system_failure",
    label: "host's disk",
    summary: "was ended because the disk of its host is full",
    hint: "It wrote more than its host had room for, or others did. It can be retried when there is room; whoever runs FireRunner decides how much disk machines are promised (vm.overcommit.disk).",
    advice: [
      "Free space where machines keep their disks: “firerunner status” says how much is promised to them, and “firerunner doctor” for how many there is room.",
      "With “vm.overcommit.disk: 1” no more is promised than can be written; smaller disks (“size.disk”) make room for more machines, and a volume of their own keeps others from filling it.",
    ],
    isWorthRetry: true,
  },
  "host-lost": {
    failureReason: "runner_system_failure",
    label: "host lost",
    summary: "was lost with its host",
    hint: "This is not the job's fault: it can be retried.",
    advice: ["“firerunner hosts list” says how its host stands, and “firerunner hosts check” what is wrong."],
    isWorthRetry: true,
  },
  machine: {
    failureReason: "runner_system_failure",
    label: "machine",
    summary: "lost its machine",
    hint: "This is not something the job's script reported: it can be retried.",
    advice: [
      "The job's log ends with the last lines of the machine's console; the host's own kernel log says whether something killed its process.",
    ],
    isWorthRetry: true,
  },
  "never-started": {
    failureReason: "runner_system_failure",
    label: "no machine",
    summary: "was failed by FireRunner",
    hint: "This is not the job's fault: it can be retried when machines start again.",
    advice: [],
    isWorthRetry: true,
  },
  unservable: {
    failureReason: "runner_system_failure",
    label: "cannot run here",
    summary: "was failed by FireRunner",
    hint: "",
    advice: ["Nothing that is configured here can run it: its reason says what it asks for."],
    isWorthRetry: false,
  },
  image: {
    failureReason: "script_failure",
    label: "image",
    summary: "names an image that it cannot have",
    hint: "Correct the image or service in .gitlab-ci.yml, or the login that the job has for it. To try again is of no use.",
    advice: [
      "Its reason has the registry's words. For images that need a login of FireRunner's own: “containers.registries”, and “containers.allow” of the pool.",
    ],
    isWorthRetry: false,
  },
  "image-fetch": {
    failureReason: "runner_system_failure",
    label: "image not fetched",
    summary: "was failed because an image could not be fetched",
    hint: "This is not the job's fault: it can be retried when the image can be had again.",
    advice: [
      "Its reason says what was in the way: the registry, the network, or the disk of job images (“firerunner image cache list”).",
    ],
    isWorthRetry: true,
  },
  shutdown: {
    failureReason: "runner_system_failure",
    label: "shutdown",
    summary: "was ended with FireRunner",
    hint: "This is not the job's fault: it can be retried.",
    advice: ["“shutdown.onLimit: leave” lets running jobs go on when FireRunner is told to end."],
    isWorthRetry: true,
  },
  runner: {
    failureReason: "runner_system_failure",
    label: "runner",
    summary: "was failed by the runner in its machine",
    hint: "",
    advice: [
      "The job's log in GitLab says what the runner could not do: fetch the sources, an artifact, or start the shell.",
    ],
    isWorthRetry: true,
  },
  gitlab: {
    failureReason: "runner_system_failure",
    label: "GitLab",
    summary: "was failed by GitLab",
    hint: "",
    advice: ["The job's page in GitLab says why: GitLab ends jobs that take too long or are not heard of."],
    isWorthRetry: false,
  },
};

interface EndedJob {
  readonly result: JobResult | null;
  readonly reason: string | null;
  readonly cause: FailureCause | null;
}

/** What a failed job's failure is blamed on. Rows of releases before may have no cause. */
export function causeOf({ reason, cause }: Pick<EndedJob, "reason" | "cause">): FailureCause {
  return cause ?? (reason === null ? "script" : "machine");
}

/** How a job ended, in a word or two: `success`, `canceled`, `failed (time limit)`. Null while it has not. */
export function outcomeOf(job: EndedJob): string | null {
  if (job.result !== "failed") return job.result;
  const { label } = failures[causeOf(job)];
  return label === "" ? "failed" : `failed (${label})`;
}

/** What GitLab is told of a job that FireRunner fails. */
export function failureReasonOf(cause: FailureCause | null): FailureMessage["failureReason"] {
  return failures[cause ?? "machine"].failureReason;
}
