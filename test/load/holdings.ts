/** What the manager holds over a run: now and then, and at rest before it and after it. */
import { setTimeout as sleep } from "node:timers/promises";
import { type Course, coursesOf } from "./growth.ts";
import type { Manager, Sample } from "./manager.ts";

const LEAST_SAMPLE_MS = 1_000;

export interface Holdings {
  readonly courses: readonly Course[];
  /** At rest, before the first job and after the last; undefined where it was not measured. */
  readonly rest: { readonly before: Sample; readonly after: Sample } | undefined;
  readonly starts: number;
  readonly crashes: readonly string[];
  readonly failedStarts: readonly string[];
}

/** Disposing of it takes no more samples. */
export interface Measuring extends AsyncDisposable {
  /** Oldest first, without that at rest after the last job. */
  readonly samples: readonly Sample[];
  /** Takes no more samples but the one at rest. */
  end(): Promise<void>;
  /** Of a run with so many jobs, once it has ended. */
  holdings(jobs: number): Holdings;
}

/** Begins with the manager at rest. */
export async function measure(manager: Manager, everyMs: number): Promise<Measuring> {
  const before = await manager.sample();
  const samples: Sample[] = before ? [before] : [];
  const over = new AbortController();
  const sampling = (async () => {
    while (!over.signal.aborted) {
      await sleep(Math.max(LEAST_SAMPLE_MS, everyMs), undefined, { signal: over.signal }).catch(() => {});
      const sample = over.signal.aborted ? undefined : await manager.sample();
      if (sample) samples.push(sample);
    }
  })();
  let after: Sample | undefined;

  async function stop(): Promise<void> {
    over.abort();
    await sampling;
  }

  return {
    samples,
    async end() {
      await stop();
      after = await manager.sample();
    },
    holdings(jobs) {
      const { starts, crashes, failedStarts } = manager;
      const rest = before && after ? { before, after } : undefined;
      // Those that ended between the middle third of the samples and the last.
      return { courses: coursesOf(samples, jobs / 3), rest, starts, crashes, failedStarts };
    },
    [Symbol.asyncDispose]: stop,
  };
}
