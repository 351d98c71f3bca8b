import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gitlabRateLimits } from "@firerunner/gitlab-stand-in/limits";
import type { Job, Project } from "@firerunner/gitlab-stand-in/model";
import { createStandInGitLab, type StandInGitLab } from "@firerunner/gitlab-stand-in/stand-in";
import type { CacheDefinition } from "../../src/ci/definition.ts";
import type { BenchContext } from "../core/figure.ts";
import { type Child, startChild } from "./child.ts";
import type { GuestsHandlers, Held, Pair, Work } from "./guests-process.ts";
import type { MachineStarted, ManagerHandlers } from "./manager-process.ts";
import { fineClock } from "./real-installation.ts";

const unlimited = { updatesPerJob: 1e9, tracesPerJob: 1e9, artifactsPerJob: 1e9 };

const aCache: CacheDefinition = {
  ...{ key: "bench", paths: ["x"], untracked: false, policy: "pull-push", when: "on_success" },
  ...{ unprotect: false, fallbackKeys: [] },
};

export interface InstallationOptions {
  /** One pool and one runner each; the number is that of jobs at one time. */
  readonly pools: readonly number[];
  readonly unpaced?: boolean;
  /** `HOST:PORT`, from which jobs have images. */
  readonly registry?: string;
  readonly metrics?: boolean;
}

/** A stand-in GitLab here, FireRunner in a second process, and the guests of its fake machines in a third. */
export interface FakeInstallation {
  readonly gitlab: StandInGitLab;
  readonly project: Project;
  readonly manager: Child<ManagerHandlers, MachineStarted>;
  readonly guests: Child<GuestsHandlers, Held>;
  /** Ends both processes; otherwise they end with the figure. */
  stop(): Promise<void>;
  /** Where FireRunner's state and everything else of this installation lies. */
  readonly directory: string;
  /** A pending job that only the runner of this pool can take. */
  addJob(pool: number, work: Work, image?: string): Promise<Job>;
  /** A job that waits in its machine, for what the bench does in its name. */
  addHeld(pool: number): Promise<Job>;
  /** A job that waits, one way through the relay and the other for a runner that takes it directly. */
  addPair(): Promise<Pair & { readonly relayJob: Job; readonly directJob: Job }>;
}

export const managerFile = join(import.meta.dirname, "manager-process.ts");

const tagOf = (pool: number) => `pool-${pool}`;

export async function createFakeInstallation(
  context: BenchContext,
  { pools, unpaced = false, registry, metrics }: InstallationOptions,
): Promise<FakeInstallation> {
  const directory = await mkdtemp(join(tmpdir(), "fr-bench-"));
  context.defer(() => rm(directory, { recursive: true, force: true, maxRetries: 3 }));
  const gitlab = createStandInGitLab({
    clock: fineClock,
    behaviour: {
      maxArtifactBytes: 2 * 1024 ** 3,
      ...(unpaced ? { limits: { ...gitlabRateLimits, ...unlimited } } : {}),
    },
  });
  await gitlab.listen();
  context.defer(() => gitlab.close());
  const project = await gitlab.projects.add();
  const runners = pools.map((_, pool) => gitlab.runners.add({ tags: [tagOf(pool)] }));
  const directRunner = gitlab.runners.add({ tags: ["direct"] });

  const manager = startChild<ManagerHandlers, MachineStarted>(managerFile);
  const guests = startChild<GuestsHandlers, Held>(join(import.meta.dirname, "guests-process.ts"));
  // The guests first: they would only complain that their machines are gone.
  async function stop(): Promise<void> {
    await guests.stop();
    await manager.stop();
  }
  context.defer(stop);
  manager.onNews((machine) => void guests.call("play", machine).catch(() => {}));
  const heldJobs = new Set<number>();
  guests.onNews(({ jobId }) => heldJobs.add(jobId));
  await manager.call("start", {
    gitlabUrl: gitlab.url,
    stateDirectory: join(directory, "state"),
    pools: pools.map((concurrency, pool) => ({
      name: tagOf(pool),
      token: runners[pool]?.token ?? "",
      concurrency,
    })),
    ...{ unpaced, registry, metrics },
    running: [],
    claims: true,
  });

  function add(tag: string, work: Work, image?: string): Promise<Job> {
    const named = image === undefined ? {} : { image: { name: image } };
    const script = [JSON.stringify(work)];
    return gitlab.addJob(project, { tags: [tag], script, caches: [aCache], ...named });
  }

  async function addHeld(pool: number): Promise<Job> {
    const job = await add(tagOf(pool), { hold: true });
    while (!heldJobs.has(job.id)) await new Promise((resolve) => setTimeout(resolve, 5));
    return job;
  }

  return {
    gitlab,
    project,
    manager,
    guests,
    directory,
    stop,
    addHeld,
    addJob: (pool, work, image) => add(tagOf(pool), work, image),
    async addPair() {
      const [relayJob, directJob] = await Promise.all([addHeld(0), add("direct", { hold: true })]);
      const direct = { url: gitlab.url, token: directRunner.token };
      return { relayJobId: relayJob.id, direct, relayJob, directJob };
    },
  };
}
