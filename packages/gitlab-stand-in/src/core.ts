import type { Clock } from "../../../src/base/clock.ts";
import { MIB_BYTES } from "../../../src/base/units.ts";
import type { ReportViolation } from "./faults.ts";
import { gitlabHookBehaviour, type HookBehaviour } from "./hooks/hook.ts";
import type { Hooks } from "./hooks/hooks.ts";
import { type Budgets, gitlabRateLimits, type RateLimiter, type RateLimits } from "./limits.ts";
import type { ObjectStorage } from "./object-storage.ts";
import type { Jobs, Pipelines } from "./pipelines.ts";
import type { Groups, Projects } from "./projects.ts";
import type { Runners } from "./runners.ts";
import type { AccessTokens } from "./tokens.ts";

/** Behaviour that a test may turn while the stand-in runs. */
export interface Behaviour {
  /** How long a job request with the newest `last_update` is held. 0 turns long polling off. */
  longPollMs: number;
  /** Final updates answered 202 first, for each job: live trace chunks are not flushed yet. */
  heldFinalUpdates: number;
  /** Seconds named in the header of such a 202. */
  heldIntervalSeconds: number;
  maxArtifactBytes: number;
  maxTraceBytes: number;
  /** Whether downloads that ask for it are sent to the object storage. */
  directDownload: boolean;
  /** Life of new runner tokens; undefined: for ever. */
  runnerTokenLifeMs: number | undefined;
  /** Runners that one group may have. GitLab.com's free plan allows 50. */
  runnersPerGroup: number;
  runnersPerProject: number;
  /** Whether others than administrators may make runners. */
  runnerRegistration: boolean;
  /** Lists never end: behind the last page comes the first. */
  endlessPages: boolean;
  /** Where the links to further pages lead, when not to this server: `https://elsewhere.example.org`. */
  linkOrigin: string | undefined;
  hooks: HookBehaviour;
  limits: RateLimits;
}

/** GitLab's own settings as they are delivered. */
export const gitlabBehaviour: Behaviour = {
  longPollMs: 50_000,
  heldFinalUpdates: 0,
  heldIntervalSeconds: 1,
  maxArtifactBytes: 100 * MIB_BYTES,
  maxTraceBytes: 100 * MIB_BYTES,
  directDownload: false,
  runnerTokenLifeMs: undefined,
  runnersPerGroup: 1_000,
  runnersPerProject: 1_000,
  runnerRegistration: true,
  endlessPages: false,
  linkOrigin: undefined,
  hooks: gitlabHookBehaviour,
  limits: gitlabRateLimits,
};

/** What every handler works with. */
export interface Core {
  readonly clock: Clock;
  readonly behaviour: Behaviour;
  readonly groups: Groups;
  readonly projects: Projects;
  readonly tokens: AccessTokens;
  readonly runners: Runners;
  readonly jobs: Jobs;
  readonly pipelines: Pipelines;
  readonly hooks: Hooks;
  readonly limiter: RateLimiter;
  readonly budgets: Budgets;
  readonly storage: ObjectStorage;
  readonly report: ReportViolation;
  /** Directory for artifact files. */
  readonly artifactsDirectory: string;
  /** The stand-in's own address, `http://127.0.0.1:<port>`. */
  url(): string;
}
