import { vi } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import type { Log } from "../../src/base/log.ts";
import { Secret } from "../../src/base/secret.ts";
import { type Claimer, createClaimer, type Health } from "../../src/claiming/claimer.ts";
import { ClaimingConfig } from "../../src/claiming/config.ts";
import { createSlots } from "../../src/claiming/slots.ts";
import type { HostCapacity } from "../../src/domain/placement.ts";
import type { Pool } from "../../src/domain/pool.ts";
import { createGitLabHttp } from "../../src/gitlab/http.ts";
import { createRunnerApi } from "../../src/gitlab/runner-client.ts";
import type { Claim, Store } from "../../src/store/store.ts";
import { aHostCapacity } from "../builders/host-capacity.ts";
import { aPool } from "../builders/pool.ts";
import { aSize } from "../builders/size.ts";
import { aStore } from "../builders/store.ts";
import { type JobQueueServer, startJobQueue } from "../servers/job-queue.ts";

/** Of the runner of `poolA`. */
export const tokenA = "glrt-t1_aaaaaaaaaaaaaaaa";
/** Of the runner of `poolB`. */
export const tokenB = "glrt-t1_bbbbbbbbbbbbbbbb";
/** Of the machines of both. */
export const size = aSize({ cpus: 1, memoryMib: 1_024 });
export const poolA = aPool({ name: "a", size, runnerToken: new Secret(tokenA), concurrency: 100 });
export const poolB = aPool({ name: "b", size, runnerToken: new Secret(tokenB), concurrency: 100 });

interface Setup {
  machines?: number;
  /** What there is room for; without it `machines` of one CPU each. */
  hosts?: () => Promise<readonly HostCapacity[]>;
  pools?: Pool[];
  config?: Partial<ClaimingConfig>;
  /** Refuses claims for as long as it answers an error. */
  claimError?: () => Error | undefined;
  server?: JobQueueServer;
}

interface Rig {
  readonly claimer: Claimer;
  readonly pools: Map<string, Pool>;
  readonly health: { value: Health };
  readonly logged: { level: string; message: string; fields: object }[];
}

/** Claimers over a real store, and a GitLab whose runners are those of `poolA` and `poolB`. */
export interface ClaimerFixture extends AsyncDisposable {
  readonly store: Store;
  readonly gitLab: JobQueueServer;
  /** What goes with the fixture, the last first. */
  readonly open: AsyncDisposable[];
  startClaimer(setup?: Setup): Rig;
  claimedIds(): Promise<number[]>;
}

/** Dispose of it in afterEach. */
export async function aClaimerFixture(): Promise<ClaimerFixture> {
  const testStore = await aStore({ clock: systemClock });
  const { store } = testStore;
  const gitLab = await startJobQueue({ tokens: [tokenA, tokenB] });
  const open: AsyncDisposable[] = [testStore, gitLab];

  function startClaimer(setup: Setup = {}): Rig {
    const { machines = 10, server = gitLab } = setup;
    const capacity = { cpus: machines, memoryMib: machines * 1_024, machines };
    const pools = new Map((setup.pools ?? [poolA]).map((pool) => [pool.name, pool]));
    const health: { value: Health } = { value: { ok: true } };
    const logged: Rig["logged"] = [];
    const http = createGitLabHttp({ url: server.url });
    const slots = createSlots({
      store,
      pools: () => pools,
      hosts: setup.hosts ?? (async () => [aHostCapacity({ capacity })]),
      placement: "spread",
    });
    const claimer = createClaimer({
      api: createRunnerApi({ http, clock: systemClock, version: "1.2.3", systemId: "s_0123456789ab" }),
      store: {
        onEvent: (listener) => store.onEvent(listener),
        claim: async (claim: Claim) => {
          const error = setup.claimError?.();
          if (error) throw error;
          return await store.claim(claim);
        },
      },
      pools: () => pools,
      slots,
      runnerInfo: () => ({ name: "gitlab-runner" }),
      canClaim: () => health.value,
      clock: systemClock,
      log: recordingLog(logged),
      random: Math.random,
      config: { ...ClaimingConfig.parse({}), ...setup.config },
    });
    claimer.start();
    open.push({
      async [Symbol.asyncDispose]() {
        // Ends what the server still holds: a claimer never gives up a request by itself.
        await Promise.all([claimer.stop(), server[Symbol.asyncDispose]()]);
        slots.close();
        await http.dispatcher.destroy();
      },
    });
    return { claimer, pools, health, logged };
  }

  async function claimedIds(): Promise<number[]> {
    const jobs = await store.jobs({ unfinished: true });
    return jobs.map(({ id }) => id).toSorted((a, b) => a - b);
  }

  return {
    ...{ store, gitLab, open, startClaimer, claimedIds },
    async [Symbol.asyncDispose]() {
      for (const each of open.splice(0).toReversed()) await each[Symbol.asyncDispose]();
    },
  };
}

function recordingLog(logged: Rig["logged"]): Log {
  const at = (level: string) => (fields: object, message: string) => {
    logged.push({ level, message, fields });
  };
  const log: Log = {
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    child: () => log,
  };
  return log;
}

/** Waits until the assertions of `check` hold. */
export async function eventually(check: () => unknown): Promise<void> {
  await vi.waitFor(check, { timeout: 10_000, interval: 5 });
}

export const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
