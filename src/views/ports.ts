/**
 * What the views read of the running program: of each module as much as is shown, as the module itself says it. Nothing here changes
 * anything. The composition hands them in; the daemon's control socket, `/readyz` and the command line are answered from them.
 */
import type { AbilityName } from "../domain/images.ts";
import type { Labels } from "../domain/placement.ts";
import type { Pool } from "../domain/pool.ts";
import type { Capacity, Taken } from "../domain/size.ts";

/** What is wrong, in words, and what to do about it. */
export interface ShownProblem {
  readonly problem: string;
  readonly hint?: string | undefined;
}

/** Whether machines of a pool can be started now. */
export interface PoolState {
  readonly pool: string;
  readonly ok: boolean;
  readonly problems: readonly ShownProblem[];
  /** `kvm`, `tcg`; undefined until the driver has been probed. */
  readonly accelerator: string | undefined;
  /** Undefined while its image has not been found. */
  readonly image?:
    | { readonly abilities?: readonly string[] | undefined; readonly variant?: string | undefined }
    | undefined;
}

export interface HostState {
  readonly key: string;
  readonly driver: string;
  readonly host: string;
  readonly labels: Labels;
  readonly taken: Taken;
  /** Undefined while the host could not be asked. */
  readonly capacity: Capacity | undefined;
  readonly problem: string | undefined;
  readonly hint: string | undefined;
  readonly isDrained: boolean;
}

/** Something that is being done or, with a cooldown, failed and is tried again. Its key ends with the job or machine that it is about: `job:4711`. */
interface TaskState {
  readonly key: string;
  readonly name: string;
  readonly cooldown:
    | { readonly failures: number; readonly error: string; readonly until: number }
    | undefined;
}

export interface SchedulerState {
  readonly hosts: readonly HostState[];
  readonly pools: readonly PoolState[];
  readonly work: readonly TaskState[];
  /** Machines that wait for the images of their jobs. */
  readonly fetching: ReadonlySet<string>;
  readonly lastRound: { readonly error: string | undefined } | undefined;
  /** Why a claimed job has no machine yet, in words. */
  blocker(jobId: number): string | undefined;
  /** Where the machine of a job is: the key of a host. */
  place(jobId: number): string | undefined;
}

interface SchedulerReads {
  mode(): "run" | "drain" | "end";
  poolHealth(): readonly PoolState[];
  status(): SchedulerState;
}

/** How the jobs of a pool are asked for. */
export interface ClaimingState {
  readonly pool: string;
  readonly state: string;
  /** Why they are not, in words; undefined when they are. */
  readonly reason: string | undefined;
  /** Given when GitLab's last answer was none, or a refusal: when it is asked again (epoch ms). */
  readonly until: number | undefined;
  /** Somebody has to change something. */
  readonly fatal: boolean;
}

export interface ClaimingReads {
  status(): readonly ClaimingState[];
}

/** What the configuration in force says. */
export interface DaemonFacts {
  readonly version: string;
  /** Epoch ms. */
  readonly startedAt: number;
  /** Undefined when the environment gave everything. */
  readonly configFile: string | undefined;
  readonly stateDirectory: string;
  readonly gitlabUrl: string;
  /** What pools want of their images. */
  readonly neededAbilities: readonly AbilityName[];
}

/** All that is read of the running program, jobs by tag aside. */
export interface DaemonReads {
  facts(): DaemonFacts;
  readonly scheduler: SchedulerReads;
  readonly claimer: ClaimingReads;
  /** Pools of the configuration and those of jobs by tag. */
  pools(): ReadonlyMap<string, Pool>;
  /** Since when GitLab has not answered and why, in words; undefined while it does. */
  outage(): string | undefined;
  /** Why GitLab could not be asked about a pool's runner token, or refused it. */
  tokenProblem(pool: string): ShownProblem | undefined;
  /** What is to be told besides, in words. */
  notices(): readonly string[];
  /** Whether jobs by tag can be found, and what is wrong with that; undefined where none are served. */
  readonly tagged: TaggedReadiness | undefined;
}

export interface TaggedReadiness {
  /** False while GitLab or the API token refuses every look. */
  canFind(): boolean;
  problems(): readonly string[];
}

/** A job that waits in GitLab for a machine of ours. */
export interface PendingJobState {
  readonly id: number;
  readonly projectId: number;
  readonly project: string;
  readonly name: string;
  readonly createdAt: number;
  readonly webUrl: string;
  readonly route: { readonly tags: readonly string[] };
}

/** One that asks for a machine that cannot be had. */
export interface UnservableState {
  readonly projectId: number;
  readonly project: string;
  /** In words. */
  readonly reason: string;
  readonly job: {
    readonly id: number;
    readonly name: string;
    readonly tags: readonly string[];
    readonly createdAt: number;
    readonly webUrl: string;
  };
}

export interface WatcherReads {
  status(): {
    readonly leftAlone: readonly UnservableState[];
    readonly missedByHooks: number;
    readonly problems: readonly string[];
    readonly projectProblems: readonly { readonly project: string; readonly problem: string }[];
  };
  /** What GitLab says of a job that waits, in words. */
  explain(jobId: number): Promise<readonly string[]>;
  readonly demand: {
    /** Oldest first. */
    pending(): readonly PendingJobState[];
    find(jobId: number): PendingJobState | undefined;
  };
}

/** `webhook` of the configuration, as far as it is shown. */
export interface WebhookFacts {
  readonly url?: string | undefined;
  readonly secrets: { readonly signingKeys: readonly unknown[]; readonly tokens: readonly unknown[] };
  readonly runners: { readonly perJob: boolean; readonly protected: boolean; readonly most: number };
}
