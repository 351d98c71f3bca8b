import { createListeners } from "../base/listeners.ts";
import type { Secret } from "../base/secret.ts";
import type { Pool } from "../domain/pool.ts";
import type { TagRules } from "../domain/routing.ts";
import type { ManagedRunner } from "../store/managed-runner.ts";
import type { Store } from "../store/store.ts";
import { fingerprint, poolOf } from "./runner-pools.ts";

export interface RunnerCacheOptions {
  readonly store: Pick<Store, "runners" | "runnerToken">;
  readonly rules: () => TagRules;
}

/** Our runners as the store has them, with their tokens, and the pools that they stand for. */
export function createRunnerCache({ store, rules }: RunnerCacheOptions) {
  const listeners = createListeners<void>();
  const tokens = new Map<string, Secret>();
  let rows: readonly ManagedRunner[] = [];
  let pools: ReadonlyMap<string, Pool> = new Map();

  async function refresh(): Promise<void> {
    const read = await store.runners();
    const keys = new Set(read.map(({ key }) => key));
    for (const key of tokens.keys()) if (!keys.has(key)) tokens.delete(key);
    for (const row of read) await readToken(row);
    rows = read;
    rebuild();
  }

  async function readToken({ key, state }: ManagedRunner): Promise<void> {
    if (state === "creating" || tokens.has(key)) return;
    const token = await store.runnerToken(key);
    if (token) tokens.set(key, token);
  }

  /** Others go by the map itself: it stays the same as long as its pools do. */
  function rebuild(): void {
    const meanings = rules();
    const living = rows.filter(({ state }) => state !== "creating");
    const next = new Map(living.map((row) => [row.pool, poolOf(row, meanings, tokens.get(row.key))]));
    if (fingerprint(next) === fingerprint(pools)) return;
    pools = next;
    listeners.emit();
  }

  return {
    /** Throws StoreError. */
    refresh,
    rows: () => rows,
    pools: () => pools,
    token: (key: string): Secret | undefined => tokens.get(key),
    setToken(key: string, token: Secret): void {
      tokens.set(key, token);
      rebuild();
    },
    onPoolsChange: listeners.add,
  };
}
