/**
 * A GitLab on loopback for the demo and the tests: the runner API, the REST API, git, artifacts and hooks, with its state in memory.
 * It answers as GitLab does, to the header, and records as a violation whatever a well-behaved client never does.
 * This file puts the parts together. `server.ts` finds the handler of a request: `api/` is what runners call, `rest/` what users with an
 * access token call, `git.ts` is git and Git LFS. Handlers work on the records of `model.ts`, each kept by one file (`pipelines.ts`,
 * `runners.ts`, `projects.ts`, …), and `hooks/` tells receivers what changed. `faults.ts` is what a test lets go wrong.
 */

import { mkdirSync, mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Clock, systemClock } from "../../../src/base/clock.ts";
import { FireRunnerError } from "../../../src/base/errors.ts";
import { type JobDefinition, jobDefinition } from "../../../src/ci/definition.ts";
import { type Behaviour, type Core, gitlabBehaviour } from "./core.ts";
import { listen, shutDown } from "./exchange.ts";
import type { Violation } from "./faults.ts";
import { createFaults, type Faults } from "./faults.ts";
import type { HookBehaviour } from "./hooks/hook.ts";
import { createHooks, type Hooks } from "./hooks/hooks.ts";
import { notifyHooks } from "./hooks/notify.ts";
import { createBudgets, createRateLimiter } from "./limits.ts";
import type { Job, Project } from "./model.ts";
import { createObjectStorage } from "./object-storage.ts";
import {
  createJobs,
  createPipelines,
  type Jobs,
  type NewPipeline,
  type Pipelines,
  type Reached,
  waitForJob,
} from "./pipelines.ts";
import { createGroups, createProjects, type Groups, type Projects } from "./projects.ts";
import { createRunners, type Runners } from "./runners.ts";
import { createApiServer, type RequestRecord } from "./server.ts";
import { type AccessTokens, createAccessTokens } from "./tokens.ts";

const MAX_RECORDS = 20_000;

export interface StandInOptions {
  readonly clock?: Clock;
  /** For repositories and artifacts. Without it a temporary one is made, and removed by `close`. */
  readonly directory?: string;
  readonly behaviour?: Partial<Omit<Behaviour, "hooks">> & { readonly hooks?: Partial<HookBehaviour> };
}

/** A strict stand-in for GitLab's runner side, on loopback. docs/demo.md says what it does and what it does not. */
export interface StandInGitLab {
  /** `http://127.0.0.1:<port>`, known after `listen`; the same port after `down` and `up`. */
  readonly url: string;
  readonly projects: Projects;
  readonly groups: Groups;
  readonly tokens: AccessTokens;
  readonly runners: Runners;
  readonly jobs: Jobs;
  readonly pipelines: Pipelines;
  readonly hooks: Hooks;
  readonly faults: Faults;
  /** May be changed while it runs. */
  readonly behaviour: Behaviour;
  readonly violations: readonly Violation[];
  /** What was asked and answered, oldest first; the last 20,000. */
  readonly requests: readonly RequestRecord[];
  listen(): Promise<void>;
  /** Refuses connections and cuts those that are open, until `up`. Nothing is forgotten. */
  down(): Promise<void>;
  up(): Promise<void>;
  close(): Promise<void>;
  /** A pipeline of one job: the shortest way to a pending job. */
  addJob(project: Project, definition?: Partial<JobDefinition>, options?: NewPipeline): Promise<Job>;
  /** Resolves as soon as the job has come this far; rejects with what it looks like when `timeoutMs` is over. */
  waitForJob(job: Job, reached: Reached, timeoutMs?: number): Promise<Job>;
}

export function createStandInGitLab(options: StandInOptions = {}): StandInGitLab {
  const directory = options.directory ?? mkdtempSync(join(tmpdir(), "fr-gitlab-"));
  const violations: Violation[] = [];
  const requests: RequestRecord[] = [];
  const faults = createFaults();
  let port = 0;
  const core = createCore(options, directory, violations, () => `http://127.0.0.1:${port}`);
  const server = createApiServer({
    core,
    faults,
    onRequest(record) {
      requests.push(record);
      if (requests.length > MAX_RECORDS) requests.shift();
    },
  });

  return {
    get url() {
      return core.url();
    },
    projects: core.projects,
    groups: core.groups,
    tokens: core.tokens,
    runners: core.runners,
    jobs: core.jobs,
    pipelines: core.pipelines,
    hooks: core.hooks,
    faults,
    behaviour: core.behaviour,
    violations,
    requests,
    async listen() {
      await core.storage.listen();
      port = await listen(server, 0);
    },
    down: () => shutDown(server),
    async up() {
      await listen(server, port);
    },
    async close() {
      await shutDown(server);
      await core.hooks.close();
      await core.storage.close();
      if (options.directory === undefined) await rm(directory, { recursive: true, force: true });
    },
    addJob: (project, definition, options) => addJob(core.pipelines, project, definition, options),
    waitForJob: (job, reached, timeoutMs) => waitForJob(core.jobs, job, reached, timeoutMs),
  };
}

function createCore(
  options: StandInOptions,
  directory: string,
  violations: Violation[],
  url: () => string,
): Core {
  const clock = options.clock ?? systemClock;
  const artifactsDirectory = join(directory, "artifacts");
  mkdirSync(artifactsDirectory, { recursive: true });
  const report: Core["report"] = (rule, detail, jobId) =>
    violations.push({ at: clock.now(), rule, detail, jobId });
  const jobs = createJobs(clock);
  const hookBehaviour = { ...gitlabBehaviour.hooks, ...options.behaviour?.hooks };
  const behaviour: Behaviour = { ...gitlabBehaviour, ...options.behaviour, hooks: hookBehaviour };
  const runners = createRunners(clock, () => behaviour.runnerTokenLifeMs);
  const groups = createGroups();
  jobs.onChange((job) => {
    if (job.status === "pending") runners.tick(job);
  });
  const limiter = createRateLimiter(clock);
  const hooks = createHooks({
    clock,
    url,
    behaviour: () => behaviour.hooks,
    allow: (group) => limiter.allow(`hooks ${group}`, behaviour.limits.hookEventsPerGroup),
  });
  const core: Core = {
    clock,
    behaviour,
    groups,
    projects: createProjects(directory, groups),
    tokens: createAccessTokens(clock),
    runners,
    jobs,
    pipelines: createPipelines(clock, jobs),
    hooks,
    limiter,
    budgets: createBudgets(clock),
    storage: createObjectStorage(clock, report),
    report,
    artifactsDirectory,
    url,
  };
  notifyHooks(core);
  return core;
}

async function addJob(
  pipelines: Pipelines,
  project: Project,
  given: Partial<JobDefinition> = {},
  options: NewPipeline = {},
): Promise<Job> {
  const definition = jobDefinition({ name: "job", ...given });
  const pipeline = { stages: [definition.stage], jobs: [definition], notices: [] };
  const [job] = pipelines.jobs(await pipelines.create(project, pipeline, options));
  if (!job) throw new FireRunnerError("demo_no_job", "the new pipeline has no job");
  return job;
}
