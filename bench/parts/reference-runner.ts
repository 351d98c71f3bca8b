/**
 * The claiming of `gitlab-runner run` as it was measured (docs/gitlab.md): a feed of its runner every check interval, which
 * waits until one of `concurrent` workers takes it; a worker asks GitLab at most once per feed and drops the feed while another
 * request is open (`request_concurrency` 1). It ends its jobs at once.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { createRunnerDouble } from "@firerunner/gitlab-stand-in/test-clients";

export interface ReferenceRunner {
  stop(): Promise<void>;
}

export interface ReferenceOptions {
  readonly url: string;
  readonly token: string;
  readonly concurrent: number;
  readonly checkIntervalMs: number;
}

export function startReferenceRunner(options: ReferenceOptions): ReferenceRunner {
  const { token, concurrent, checkIntervalMs } = options;
  const runner = createRunnerDouble(options.url);
  const ending = new AbortController();
  let lastUpdate: string | undefined;
  let requestOpen = false;
  /** Workers that wait for a feed. */
  const idle: (() => void)[] = [];
  /** The feeder, when it waits for a worker. */
  let offer: (() => void) | undefined;

  async function feed(): Promise<void> {
    while (!ending.signal.aborted) {
      const worker = idle.shift();
      if (worker) worker();
      else
        await new Promise<void>((resolve) => {
          offer = resolve;
        });
      await sleep(checkIntervalMs, undefined, { signal: ending.signal }).catch(() => {});
    }
  }

  function takeFeed(): Promise<void> {
    const waiting = offer;
    offer = undefined;
    if (waiting) {
      waiting();
      return Promise.resolve();
    }
    return new Promise((resolve) => idle.push(resolve));
  }

  async function worker(): Promise<void> {
    while (!ending.signal.aborted) {
      await takeFeed();
      if (requestOpen || ending.signal.aborted) continue;
      requestOpen = true;
      const answer = await runner
        .requestJob(token, lastUpdate === undefined ? {} : { lastUpdate })
        .finally(() => {
          requestOpen = false;
        });
      const header = answer.headers["x-gitlab-last-update"];
      if (typeof header === "string") lastUpdate = header;
      if (answer.status !== 201) continue;
      const { id, token: jobToken } = answer.json() as { id: number; token: string };
      await runner.update(id, jobToken, "success");
    }
  }

  for (const loop of [feed, ...Array.from({ length: concurrent }, () => worker)]) loop().catch(() => {});
  return {
    async stop() {
      ending.abort();
      await runner.close();
    },
  };
}
