import { open } from "node:fs/promises";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";

const EVERY_MS = 200;
const BYTES = 4_096;

export interface FlushWatch {
  /** How long each flush took. */
  stop(): Promise<readonly number[]>;
}

/** Now and then writes a page to a file in `directory` and flushes it: what the disk takes while somebody else uses it. */
export function watchFlushes(directory: string): FlushWatch {
  const flushesMs: number[] = [];
  const ending = new AbortController();
  const page = Buffer.alloc(BYTES, "x");

  async function watch(): Promise<void> {
    const file = await open(join(directory, "flushed"), "w");
    try {
      while (!ending.signal.aborted) {
        await file.write(page);
        const startedAt = performance.now();
        await file.datasync();
        flushesMs.push(performance.now() - startedAt);
        await sleep(EVERY_MS, undefined, { signal: ending.signal }).catch(() => {});
      }
    } finally {
      await file.close();
    }
  }

  const watching = watch();
  return {
    async stop() {
      ending.abort();
      await watching;
      return flushesMs;
    },
  };
}
