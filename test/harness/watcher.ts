import { silentLog } from "../../src/base/log.ts";
import { createManualClock, type ManualClock } from "../../src/base/manual-clock.ts";
import { WebhookConfig } from "../../src/discovery/config.ts";
import { createWatcher, type Watcher, type WatcherOptions } from "../../src/discovery/watcher.ts";
import type { Scope } from "../../src/gitlab/rest-api.ts";
import type { Store } from "../../src/store/store.ts";
import { aRestGitLab, type RestGitLab } from "../builders/rest-gitlab.ts";
import { aStore } from "../builders/store.ts";
import { tagRules } from "../builders/tag-rules.ts";

const group: Scope = { kind: "group", id: 3, path: "group" };

export type WatcherSetup = Partial<WatcherOptions> & {
  /** As in the configuration. */
  readonly poll?: object;
  readonly projects?: string[];
};

/** Watchers over a real store and a GitLab in memory, on a clock that the test moves on. */
export interface WatcherFixture extends AsyncDisposable {
  readonly clock: ManualClock;
  readonly store: Store;
  readonly gitlab: RestGitLab;
  /** Starts one, and lets it look for the first time. */
  start(setup?: WatcherSetup): Promise<Watcher>;
  /** Of the last that was started: the jobs for which there is a demand. */
  pending(): number[];
  /** Tells the last that was started of a webhook. */
  hook(jobId: number, status?: string, projectId?: number): void;
  /** The kinds of a job's events, the oldest first. */
  kinds(jobId: number): Promise<string[]>;
  /** Messages of the log with this level. */
  said(level: string): string[];
}

/** Dispose of it in afterEach. */
export async function aWatcherFixture(): Promise<WatcherFixture> {
  const clock = createManualClock();
  const testStore = await aStore({ clock });
  const { store } = testStore;
  const gitlab = aRestGitLab(clock);
  const logged: { level: string; message: string }[] = [];
  let watcher: Watcher;

  async function start(setup: WatcherSetup = {}): Promise<Watcher> {
    const { poll, projects, ...options } = setup;
    const note = (level: string) => (_fields: object, message: string) =>
      void logged.push({ level, message });
    const { poll: pollConfig, projects: named } = WebhookConfig.parse({
      ...{ group: "group", apiToken: "glpat-x", poll: poll ?? {}, projects: projects ?? [] },
    });
    watcher = createWatcher({
      store,
      rest: gitlab.rest,
      rules: () => tagRules(),
      scope: async () => group,
      clock,
      random: () => 0.5,
      config: { poll: pollConfig, projects: named },
      log: { ...silentLog, warn: note("warn"), info: note("info"), error: note("error") },
      expectsHooks: true,
      ...options,
    });
    watcher.start();
    await clock.advance(10);
    return watcher;
  }

  return {
    ...{ clock, store, gitlab, start },
    pending: () => watcher.demand.pending().map(({ id }) => id),
    hook: (jobId, status = "pending", projectId = 7) => watcher.noteHook({ projectId, jobId, status }),
    kinds: async (jobId) => (await store.events({ jobId })).map(({ kind }) => kind),
    said: (level) => logged.filter((each) => each.level === level).map(({ message }) => message),
    async [Symbol.asyncDispose]() {
      const stopped = watcher.stop();
      await clock.advance(1_000);
      await stopped;
      await testStore[Symbol.asyncDispose]();
    },
  };
}
