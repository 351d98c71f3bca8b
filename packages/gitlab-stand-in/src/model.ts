import { crc32 } from "node:zlib";
import type { JobDefinition, PipelineDefinition } from "../../../src/ci/definition.ts";

/** A CI/CD variable of a project or a job, as GitLab's job payload words it. */
export interface CiVariable {
  readonly key: string;
  readonly value: string;
  readonly public: boolean;
  readonly masked: boolean;
  readonly file?: true;
  readonly raw?: true;
}

/** A namespace. Groups are there as soon as a project lies in them. */
export interface Group {
  readonly id: number;
  /** `group` or `group/sub`. */
  readonly path: string;
  readonly parentId: number | undefined;
}

export interface Project {
  readonly id: number;
  /** `group/project`. */
  readonly path: string;
  archived: boolean;
  /** A bare repository of the stand-in's own, or undefined for a project without Git. */
  readonly repository: string | undefined;
  readonly defaultBranch: string;
  /** Paths of other projects whose jobs may read it with their token. */
  readonly jobTokenAllowlist: readonly string[];
  /** What Git LFS keeps of it, by SHA-256. */
  readonly largeFiles: ReadonlyMap<string, Buffer>;
  readonly variables: readonly CiVariable[];
  /** The setting “Use separate caches for protected branches”. */
  separateCaches: boolean;
}

type RunnerType = "instance_type" | "group_type" | "project_type";

export interface Runner {
  readonly id: number;
  token: string;
  /** Epoch ms, or undefined for ever. */
  tokenExpiresAt: number | undefined;
  readonly type: RunnerType;
  /** The group it belongs to. It serves the projects below. */
  readonly groupPath: string | undefined;
  /** The project it belongs to. */
  readonly projectId: number | undefined;
  description: string;
  maintenanceNote: string | undefined;
  tags: readonly string[];
  runUntagged: boolean;
  locked: boolean;
  /** `ref_protected`: jobs of protected branches and tags only. */
  accessLevel: "not_protected" | "ref_protected";
  maximumTimeoutSeconds: number | undefined;
  paused: boolean;
  readonly createdAt: number;
  /** The user who made it by API. */
  readonly creatorId: number | undefined;
  /** It has asked for jobs. Until then GitLab shows it as offline, whatever `verify` says. */
  creationFinished: boolean;
  /** Epoch ms of the last call with its token; undefined: never. */
  contactedAt: number | undefined;
  /** What the last call said about the runner: `info`, and `system_id`. */
  info: Readonly<Record<string, unknown>> | undefined;
  systemId: string | undefined;
}

export interface Commit {
  readonly message: string;
  /** `Name <address>` */
  readonly author: string;
  /** ISO 8601. */
  readonly committedAt: string;
}

export interface Pipeline {
  readonly id: number;
  readonly project: Project;
  readonly definition: PipelineDefinition;
  readonly ref: string;
  readonly sha: string;
  /** What its commit says of itself; undefined where there is no Git. */
  readonly commit: Commit | undefined;
  /** Its branch is protected: runners for protected branches may take its jobs. */
  readonly protectedRef: boolean;
  /** What last changed files that keys of caches are made of, by their paths joined with line ends. */
  readonly fileKeys: ReadonlyMap<string, string>;
  readonly createdAt: number;
}

export interface Artifact {
  readonly type: string;
  readonly format: string;
  readonly filename: string;
  /** Where its bytes lie on this computer. */
  readonly path: string;
  readonly sizeBytes: number;
  /** Epoch ms, or undefined for ever. */
  readonly expiresAt: number | undefined;
}

/** What the last update said the whole trace is, next to what is stored. */
interface TraceCheck {
  readonly claimed: string;
  readonly actual: string;
  readonly claimedBytes: number | undefined;
  readonly actualBytes: number;
  readonly matches: boolean;
}

export interface Job {
  readonly id: number;
  readonly project: Project;
  readonly pipeline: Pipeline;
  readonly definition: JobDefinition;
  readonly token: string;
  readonly trace: Trace;
  readonly artifacts: Artifact[];
  /** How many times this job name was tried before. */
  readonly retryCount: number;
  status: JobStatus;
  runner: Runner | undefined;
  runnerInfo: Readonly<Record<string, unknown>> | undefined;
  /** The `system_id` with which it was claimed. */
  systemId: string | undefined;
  failureReason: string | undefined;
  exitCode: number | undefined;
  /** The job that replaced this one after a retry. */
  retriedAs: number | undefined;
  /** Somebody looks at the log: GitLab asks for it every 3 s instead of every 60 s. */
  watched: boolean;
  traceCheck: TraceCheck | undefined;
  /** Body of a final update that was answered 202; the next must say the same. */
  heldUpdate: string | undefined;
  /** Final updates answered 202 so far. */
  heldCount: number;
  /** The answer that told the runner of the job's end has been sent whole. */
  endAnswered: boolean;
  /** The trace that GitLab makes of it, where it makes traces. */
  tracing?: { readonly traceId: string; readonly spanParentId: string };
  readonly createdAt: number;
  pendingAt: number | undefined;
  /** Claimed by a runner. */
  startedAt: number | undefined;
  canceledAt: number | undefined;
  finishedAt: number | undefined;
}

export function isProcessing(job: Job): boolean {
  return job.status === "running" || job.status === "canceling";
}

export function isForgiven(job: Job): boolean {
  const { allowFailure } = job.definition;
  if (typeof allowFailure === "boolean") return allowFailure;
  return job.exitCode !== undefined && allowFailure.exitCodes.includes(job.exitCode);
}

/** The archive that later jobs fetch. */
export function archiveOf(job: Job): Artifact | undefined {
  return job.artifacts.find((artifact) => artifact.type === "archive");
}

export type JobStatus =
  | "created"
  | "pending"
  | "running"
  | "canceling"
  | "success"
  | "failed"
  | "canceled"
  | "skipped"
  | "manual";

/** States of a job that has nothing more to wait for but others. */
export const settledStates: readonly JobStatus[] = [
  "created",
  "manual",
  "success",
  "failed",
  "canceled",
  "skipped",
];

export const endStates: readonly JobStatus[] = ["success", "failed", "canceled", "skipped"];

type AppendOutcome =
  | { readonly kind: "accepted"; readonly sizeBytes: number; readonly repeated: "no" | "same" | "different" }
  | { readonly kind: "elsewhere"; readonly sizeBytes: number };

/** The log of one job, as GitLab stores it. */
interface Trace {
  readonly sizeBytes: number;
  bytes(): Buffer;
  text(): string;
  /** `crc32:` and 8 hex digits. */
  checksum(): string;
  append(body: Buffer, startBytes: number): AppendOutcome;
  /** Calls `listener` with the bytes of each append. Returns the way to stop. */
  onAppend(listener: (bytes: Buffer) => void): () => void;
}

/**
 * GitLab appends only at the exact end, then compares `stored size == start + body size`. So a repeat of exactly the last
 * bytes (an answer that was lost) passes, and every other start is answered with the size that is stored.
 */
export function createTrace(): Trace {
  const chunks: Buffer[] = [];
  const listeners = new Set<(bytes: Buffer) => void>();
  let sizeBytes = 0;

  function bytes(): Buffer {
    if (chunks.length > 1) chunks.splice(0, chunks.length, Buffer.concat(chunks));
    return chunks[0] ?? Buffer.alloc(0);
  }

  function append(body: Buffer, startBytes: number): AppendOutcome {
    if (startBytes === sizeBytes) {
      chunks.push(body);
      sizeBytes += body.length;
      for (const listener of listeners) listener(body);
      return { kind: "accepted", sizeBytes, repeated: "no" };
    }
    if (startBytes + body.length !== sizeBytes) return { kind: "elsewhere", sizeBytes };
    const same = bytes().subarray(startBytes).equals(body);
    return { kind: "accepted", sizeBytes, repeated: same ? "same" : "different" };
  }

  return {
    get sizeBytes() {
      return sizeBytes;
    },
    bytes,
    text: () => bytes().toString("utf8"),
    checksum: () => `crc32:${crc32(bytes()).toString(16).padStart(8, "0")}`,
    append,
    onAppend(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}
