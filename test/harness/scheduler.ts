import { silentLog } from "../../src/base/log.ts";
import { createManualClock, type ManualClock } from "../../src/base/manual-clock.ts";
import type { JobUpdate, RemoteJobStatus, RunnerApi } from "../../src/gitlab/runner-api.ts";
import { SchedulerConfig, ShutdownConfig } from "../../src/scheduler/config.ts";
import type { GuestEndpoint } from "../../src/scheduler/ports.ts";
import { createScheduler, type Scheduler, type SchedulerDeps } from "../../src/scheduler/scheduler.ts";
import type { Store } from "../../src/store/store.ts";
import type { VmDriver } from "../../src/vm/driver.ts";
import { createFakeDriver } from "../../src/vm/fake/driver.ts";
import { createFakeHost, type FakeHost } from "../../src/vm/fake/host.ts";
import { createFleet } from "../../src/vm/fleet.ts";
import { anImage } from "../builders/image.ts";
import { aClaim } from "../builders/job.ts";
import { noJobImages } from "../builders/job-images.ts";
import { aPool } from "../builders/pool.ts";
import { aStore } from "../builders/store.ts";

/** The job of `aClaim`, of which a test speaks when it names none. */
const THE_JOB = 4711;

/** GitLab's answers are set by the test; what it was sent is kept. */
interface TestGitLab {
  readonly updates: JobUpdate[];
  /** Of every job that has one. */
  readonly traces: Map<number, Buffer>;
  /** That of job 4711. */
  trace: Buffer;
  answer: (update: JobUpdate) => RemoteJobStatus;
  readonly api: RunnerApi;
}

/** A relay to which guests are let, and what it was told of them. */
interface TestRelay extends GuestEndpoint {
  readonly listening: Map<string, string>;
  readonly hurried: string[];
}

/** Schedulers over a real store and fake machines, on a clock that the test moves on. */
export interface SchedulerFixture extends AsyncDisposable {
  readonly clock: ManualClock;
  readonly store: Store;
  readonly host: FakeHost;
  /** Of that host. */
  readonly driver: VmDriver;
  readonly gitlab: TestGitLab;
  readonly relay: TestRelay;
  /** One with a single pool, `small`, whose machines `driver` makes. */
  start(overrides?: Partial<SchedulerDeps>): Scheduler;
  stop(scheduler: Scheduler): Promise<void>;
  /** A job whose guest has been given the payload; its machine's id. */
  aRunningJob(jobId?: number): Promise<string>;
  /** The kinds of a job's events, the oldest first. */
  kinds(jobId?: number): Promise<string[]>;
}

function aGitLab(): TestGitLab {
  const updates: JobUpdate[] = [];
  const traces = new Map<number, Buffer>();
  const gitlab: TestGitLab = {
    updates,
    traces,
    get trace() {
      return traces.get(THE_JOB) ?? Buffer.alloc(0);
    },
    set trace(bytes) {
      traces.set(THE_JOB, bytes);
    },
    answer: (update) => ({ kind: "accepted", status: update.state }),
    api: {
      verify: async () => ({ id: 1, tokenExpiresAt: null }),
      resetToken: async (token) => ({ token, tokenExpiresAt: null }),
      requestJob: async () => ({ kind: "none" }) as const,
      updateJob: async (update) => {
        updates.push(update);
        return gitlab.answer(update);
      },
      appendTrace: async ({ jobId, startBytes, bytes }) => {
        const trace = traces.get(jobId) ?? Buffer.alloc(0);
        const endBytes = startBytes + bytes.length;
        if (startBytes !== trace.length && endBytes !== trace.length)
          return { kind: "elsewhere", sizeBytes: trace.length };
        if (endBytes !== trace.length) traces.set(jobId, Buffer.concat([trace, bytes]));
        return { kind: "accepted", sizeBytes: endBytes, status: "running", intervalMs: undefined };
      },
    },
  };
  return gitlab;
}

function aRelay(clock: ManualClock): TestRelay {
  const open = new Map<string, string>();
  const hurried: string[] = [];
  return {
    hurried,
    tellCanceling: (id) => void hurried.push(id),
    open: async (id, path) => void open.set(id, path ?? "network"),
    link: async () => await Promise.reject(new Error("no machine of these tests is elsewhere")),
    endOf: () => undefined,
    close: async (id) => void open.delete(id),
    lastHeardAt: () => clock.now(),
    lastStatusAt: () => undefined,
    listening: open,
  };
}

/** Dispose of it in afterEach: that stops its schedulers and closes its store. */
export async function aSchedulerFixture(): Promise<SchedulerFixture> {
  const clock = createManualClock();
  const testStore = await aStore({ clock });
  const { store } = testStore;
  const host = createFakeHost(clock);
  const driver = createFakeDriver({ host });
  const gitlab = aGitLab();
  const relay = aRelay(clock);
  const schedulers: Scheduler[] = [];

  function start(overrides: Partial<SchedulerDeps> = {}): Scheduler {
    const scheduler = createScheduler({
      ...{ store, clock, relay },
      api: gitlab.api,
      log: silentLog,
      random: () => 0.5,
      fleet: createFleet([driver]),
      placement: "spread",
      images: { resolve: async () => anImage },
      jobImages: noJobImages,
      pools: () => new Map([["small", aPool()]]),
      config: SchedulerConfig.parse({}),
      shutdown: ShutdownConfig.parse({ drainLimit: "2s" }),
      disk: { freeBytes: async () => 2 ** 40, minFreeBytes: 2 ** 30 },
      ...overrides,
    });
    scheduler.start();
    schedulers.push(scheduler);
    return scheduler;
  }

  async function stop(scheduler: Scheduler): Promise<void> {
    const stopped = scheduler.stop();
    await clock.advance(60_000);
    await stopped;
  }

  async function aRunningJob(jobId = THE_JOB): Promise<string> {
    await store.claim(aClaim({ jobId }));
    await clock.advance(100);
    const machineId = (await store.job(jobId))?.machineId ?? "";
    await store.handOver(jobId, machineId);
    return machineId;
  }

  return {
    ...{ clock, store, host, driver, gitlab, relay, start, stop, aRunningJob },
    kinds: async (jobId = THE_JOB) => (await store.events({ jobId })).map(({ kind }) => kind),
    async [Symbol.asyncDispose]() {
      for (const scheduler of schedulers) await stop(scheduler);
      await driver.close();
      await testStore[Symbol.asyncDispose]();
    },
  };
}
