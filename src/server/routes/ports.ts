/** What may be asked of the running program, beside what the views show: each as a port that the composition fills. */
import type { Clock } from "../../base/clock.ts";
import type { ManagedRunner } from "../../store/jobs-by-tag.ts";
import type { EventViews, RetriedJob, Views } from "../../views/api.ts";
import type { StatusReads } from "../../views/status.ts";
import type { TaggedJobViews } from "../../views/tagged-jobs.ts";
import type { TrialOrder, TrialStep } from "../../views/trial-api.ts";
import type { WebhookViews } from "../../views/webhook-api.ts";
import type { Caller } from "../roles.ts";

export interface ControlPorts extends StatusReads {
  /** The last bytes of a machine's console as text. */
  console(machineId: string, maxBytes: number): Promise<string>;
  /** Its console from now on, until the signal aborts or the machine is gone. */
  followConsole(machineId: string, signal: AbortSignal): AsyncIterable<string>;
  readonly jobLogs: JobLogPorts;
  drain(): void | Promise<void>;
  resume(): void | Promise<void>;
  /** Reads the configuration again. Returns what changed, in words; throws when it cannot be used. */
  reload(): Promise<readonly string[]>;
  /** Has GitLab run a job anew that failed by no fault of its own script. Throws when it may not. */
  retryJob(jobId: number): Promise<RetriedJob>;
  readonly hosts: HostPorts;
  readonly events: EventPorts;
  /** Notes in the log of events who has changed something: `POST /hosts/metal-1/drain`. */
  noteChange(caller: Caller, change: string): Promise<void>;
  readonly clock: Clock;
  /** Jobs by tag; undefined when the configuration has no `webhook`. */
  readonly webhook?: WebhookPorts | undefined;
}

export interface JobLogPorts {
  /** What a running job has written lately; undefined when nothing of its log has come by since this program began. */
  tail(jobId: number, maxBytes: number): string | undefined;
  /** The same, and then what comes, until the signal aborts or its machine is gone. */
  follow(jobId: number, maxBytes: number, signal: AbortSignal): AsyncIterable<string>;
}

/** What may be asked of hosts, by name. Each returns what was done, in words; throws `not_found` for a name that is none. */
export interface HostPorts {
  drain(name: string): Promise<readonly string[]>;
  resume(name: string): Promise<readonly string[]>;
  /** For a host that is gone for good and not configured any more: its machines count as gone. */
  forget(name: string): Promise<readonly string[]>;
  /** Tries a host out, configured or not. When the signal aborts, what was made is removed before it ends. */
  tryHost(order: TrialOrder, signal: AbortSignal): AsyncIterable<TrialStep>;
}

export interface WebhookPorts extends TaggedJobViews {
  /** The runners of jobs by tag, as far as people may ask something of them. */
  readonly runners: {
    create(tags: readonly string[]): Promise<ManagedRunner>;
    retire(keyOrId: string): Promise<ManagedRunner>;
    prune(): Promise<readonly string[]>;
  };
}

/** Who is told that there are new events, and reads them itself. */
export interface EventPorts {
  follow(listener: () => void): () => void;
  /** How many follow now. */
  readonly streams: number;
}

export interface RouteDeps {
  readonly views: Views & WebhookViews & EventViews;
  readonly ports: ControlPorts;
}
