/**
 * What the daemon and the command line say to each other over the control socket. Unknown fields are dropped when read, so
 * that a command line and a daemon of neighbouring versions understand each other. Times are epoch ms, null until
 * they have happened.
 */
import { z } from "zod";
import type { JobResult, JobState } from "../domain/states.ts";
import { WebhookStatus } from "./webhook-api.ts";

const at = z.number().nullable();
const Size = z.object({ cpus: z.number(), memoryMib: z.number(), diskMib: z.number() });
const Taken = z.object({
  cpus: z.number(),
  memoryMib: z.number(),
  machines: z.number(),
  /** Scratch disks, each counted whole. */
  diskMib: z.number(),
});
/** `diskMib` is null where nobody has said how much there is: disk is then no limit. */
const Capacity = Taken.extend({ diskMib: z.number().nullable() });

export const JobView = z.object({
  id: z.number(),
  pool: z.string(),
  /** The beginning of the runner's token. */
  runner: z.string(),
  state: z.string(),
  name: z.string(),
  stage: z.string(),
  project: z.string(),
  size: Size,
  timeoutMs: z.number(),
  attempt: z.number(),
  machineId: z.string().nullable(),
  claimedAt: z.number(),
  startingAt: at,
  runningAt: at,
  failingAt: at,
  finishedAt: at,
  reportAt: at,
  result: z.string().nullable(),
  reason: z.string().nullable(),
  /** What a failure is blamed on: `script`, `time-limit`, `memory`, `machine` and so on. Daemons of releases before do not tell. */
  cause: z.string().nullable().default(null),
  /** What its machine has used at most, as its guest tells; null where it did not. */
  peakMemoryMib: z.number().nullable().default(null),
  peakDiskMib: z.number().nullable().default(null),
  /** How it ended, in a word or two for people: `success`, `canceled`, `failed (time limit)`. */
  outcome: z.string().nullable().default(null),
  /** The images that it names are fetched before its machine is made; told by the running program alone. */
  fetching: z.boolean().default(false),
});
export type JobView = z.infer<typeof JobView>;

export const MachineView = z.object({
  id: z.string(),
  jobId: z.number().nullable(),
  pool: z.string(),
  driver: z.string(),
  host: z.string(),
  image: z.string(),
  size: Size,
  state: z.string(),
  reason: z.string().nullable(),
  createdAt: z.number(),
  bootingAt: at,
  heardAt: at,
  readyAt: at,
  busyAt: at,
  stoppingAt: at,
  goneAt: at,
});
export type MachineView = z.infer<typeof MachineView>;

/** One row of the log; `text` says it in words. */
export const EventView = z.object({
  seq: z.number(),
  at: z.number(),
  kind: z.string(),
  jobId: z.number().nullable(),
  machineId: z.string().nullable(),
  detail: z.record(z.string(), z.unknown()),
  text: z.string(),
});
export type EventView = z.infer<typeof EventView>;

/** Why a job is where it is, or how it ended. */
export const Explanation = z.object({
  /** One sentence. */
  summary: z.string(),
  /** What decided it, when it was not the job's own script; null when nothing did. */
  cause: z.string().nullable(),
  /** What somebody can do, most useful first. */
  advice: z.array(z.string()),
});
export type Explanation = z.infer<typeof Explanation>;

export const JobReport = z.object({
  job: JobView,
  events: z.array(EventView),
  explanation: Explanation,
  /** The trace that tells of it, where one is made (32 hex digits). */
  traceId: z.string().nullable().default(null),
});
export type JobReport = z.infer<typeof JobReport>;

/** A job of GitLab's that was never claimed here. */
export const WaitingJob = z.object({
  id: z.number(),
  /** Empty, as are name and tags, for an unseen one. */
  project: z.string(),
  name: z.string(),
  tags: z.array(z.string()),
  /**
   * `left-alone`: it asks for a machine that cannot be had. `gone`: it does not wait any more. `unseen`: it was not noticed waiting,
   * and something can be said of it nevertheless.
   */
  standing: z.enum(["waiting", "left-alone", "gone", "unseen"]),
  noticedAt: at,
});
export type WaitingJob = z.infer<typeof WaitingJob>;

export const WaitingReport = z.object({
  waiting: WaitingJob,
  events: z.array(EventView),
  explanation: Explanation,
});
export type WaitingReport = z.infer<typeof WaitingReport>;

/** `GET /v1/jobs/:id`. */
export const JobStory = z.union([JobReport, WaitingReport]);
export type JobStory = z.infer<typeof JobStory>;

const PoolStatus = z.object({
  name: z.string(),
  /** True when machines of it can be started now. */
  ok: z.boolean(),
  problems: z.array(z.object({ problem: z.string(), hint: z.string().nullable() })),
  accelerator: z.string().nullable(),
  driver: z.string(),
  image: z.string(),
  size: Size,
  /** Jobs at one time. */
  limit: z.number(),
  /**
   * Machines of it at one time if nothing else ran: as many as hosts and its limit allow, and as many as disk alone allows (null: any
   * number). `note`: where it is disk that allows no more, what can be done.
   */
  room: z.object({ machines: z.number(), byDisk: z.number().nullable(), note: z.string().nullable() }),
  /** What its image lacks of what it is wanted for, and the command that mends it. */
  imageNote: z.object({ problem: z.string(), hint: z.string() }).optional(),
  /** `tags`: made for a set of tags, as its runner is. */
  origin: z.enum(["configured", "tags"]).default("configured"),
  /** Why GitLab could not be asked about its runner token, or refused it, and what to do. */
  tokenNote: z.object({ problem: z.string(), hint: z.string().nullable() }).optional(),
  /** How its jobs are asked for: `polling`, or why not, in words. */
  claiming: z.string(),
});

export type PoolStatus = z.infer<typeof PoolStatus>;

const HostStatus = z.object({
  /** Its name among all: `qemu`, `flintlock/metal-1`. */
  key: z.string(),
  driver: z.string(),
  host: z.string(),
  labels: z.record(z.string(), z.string()),
  /** Somebody wants nothing new there. */
  drained: z.boolean(),
  taken: Taken,
  capacity: Capacity.nullable(),
  /** Why nothing new is started there just now. */
  problem: z.string().nullable(),
  hint: z.string().nullable(),
});
export type HostStatus = z.infer<typeof HostStatus>;

/** What the running program says of itself. */
export const DaemonStatus = z.object({
  version: z.string(),
  pid: z.number(),
  startedAt: z.number(),
  mode: z.enum(["run", "drain", "end"]),
  /** The configuration file; null when the environment gave everything. */
  configFile: z.string().nullable(),
  stateDirectory: z.string(),
  gitlabUrl: z.string(),
  /** Since when GitLab has not answered and why, in words; null while it does. */
  gitlabProblem: z.string().nullable().default(null),
  pools: z.array(PoolStatus),
  hosts: z.array(HostStatus),
  /** Machines that wait for the images of their jobs. */
  fetching: z.array(z.string()).default([]),
  /** What failed and will be tried again, in words. */
  troubles: z.array(z.string()),
  /** What is kept on this computer's disks and gives way to machines. */
  caches: z
    .array(
      z.object({
        name: z.string(),
        directory: z.string(),
        usedBytes: z.number(),
        evictableBytes: z.number(),
      }),
    )
    .default([]),
});
export type DaemonStatus = z.infer<typeof DaemonStatus>;

const PoolCounts = PoolStatus.extend({
  running: z.number(),
  /** Their machines boot. */
  starting: z.number(),
  /** Without a machine yet, claimed or still in GitLab. */
  queued: z.number(),
  /** Starting and queued, as the release before counted them. */
  waiting: z.number(),
});

const PublicServerView = z.object({ addresses: z.array(z.string()), problems: z.array(z.string()) });

/** `GET /v1/status`: the daemon's word and what the store holds. */
export const Status = DaemonStatus.extend({
  pools: z.array(PoolCounts),
  unfinished: z.array(JobView),
  liveMachines: z.number(),
  /** The last jobs that ended, newest first. */
  recent: z.array(JobView),
  /** Where webhooks and questions after its health are received, and what keeps it from being ready; null when nowhere. */
  publicServer: PublicServerView.nullable(),
  /** The same, as the release before named it in what `--json` prints; to be left out with the next one. */
  door: PublicServerView.nullable(),
  /** Jobs by tag; null when the configuration has no `webhook`. */
  webhook: WebhookStatus.nullable(),
});
export type Status = z.infer<typeof Status>;

export const JobList = z.object({ jobs: z.array(JobView) });
export const EventList = z.object({ events: z.array(EventView) });
export const MachineList = z.object({ machines: z.array(MachineView) });
/** Answer to drain, resume and reload: what was done, in words. */
export const Done = z.object({ messages: z.array(z.string()) });
/** The job that GitLab made of one that failed. `note`: why it may well fail again. */
export const RetriedJob = z.object({ id: z.number(), webUrl: z.string(), note: z.string().nullable() });
export type RetriedJob = z.infer<typeof RetriedJob>;
export const Problem = z.object({ code: z.string(), message: z.string(), hint: z.string().nullable() });
export type Problem = z.infer<typeof Problem>;

export interface ListFilter {
  /** Only what has not ended. */
  readonly live?: boolean | undefined;
  readonly limit?: number | undefined;
}

/** Which jobs a list has; what is left out limits nothing. */
export interface JobFilter extends ListFilter {
  /** The path of a project, or of a group: of all projects below it. */
  readonly project?: string | undefined;
  readonly pool?: string | undefined;
  readonly states?: readonly JobState[] | undefined;
  readonly results?: readonly JobResult[] | undefined;
  /** Claimed then or later (epoch ms). */
  readonly since?: number | undefined;
}

/** Looking at jobs and machines: the daemon does it for the socket, and offline a command does it by itself. */
export interface Views {
  /** Newest first. */
  jobs(filter?: JobFilter): Promise<JobView[]>;
  /** Undefined for a job that was neither claimed nor noticed here, or has been pruned. */
  job(id: number): Promise<JobStory | undefined>;
  machines(filter?: ListFilter): Promise<MachineView[]>;
  machine(id: string): Promise<MachineView | undefined>;
  /** How many there are. */
  liveMachines(): Promise<number>;
}

interface EventFilter {
  readonly jobId?: number;
  readonly machineId?: string;
  readonly afterSeq?: number;
  readonly limit?: number;
}

/** The log of events. */
export interface EventViews {
  /** Oldest first. */
  events(filter: EventFilter): Promise<EventView[]>;
  /** The number of the newest; 0 before the first. */
  lastEvent(): Promise<number>;
}

/** The control socket's name in the state directory. */
export const SOCKET_NAME = "control.sock";
