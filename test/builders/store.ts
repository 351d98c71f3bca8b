import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Clock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { createManualClock } from "../../src/base/manual-clock.ts";
import { createStore } from "../../src/store/create-store.ts";
import type { Store } from "../../src/store/store.ts";

export interface TestStore extends AsyncDisposable {
  readonly store: Store;
  readonly directory: string;
}

/**
 * A real store on a database of its own: in memory unless `onDisk`. `await using` it, or call its `[Symbol.asyncDispose]`
 * in afterEach, to close it and remove its directory.
 */
export async function aStore(options: { clock?: Clock; onDisk?: boolean } = {}): Promise<TestStore> {
  const directory = await mkdtemp(join(tmpdir(), "fr-store-"));
  const store = await createStore({
    database: options.onDisk ? join(directory, "firerunner.db") : ":memory:",
    keyFile: join(directory, "key"),
    clock: options.clock ?? createManualClock(),
    log: silentLog,
  });
  return {
    store,
    directory,
    async [Symbol.asyncDispose]() {
      await store.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
}
