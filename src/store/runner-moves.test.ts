import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { aGivenRunner, aNewRunner } from "../../test/builders/managed-runner.ts";
import { aStore } from "../../test/builders/store.ts";
import { Secret } from "../base/secret.ts";
import { canMoveRunner, type RunnerState } from "../domain/states.ts";
import type { Store } from "./store.ts";

const keys = ["r-1", "r-2", "r-3"];
const pools = ["tags:a", "tags:b"];
const key = fc.constantFrom(...keys);

/** A call of the store, whatever the state it meets. */
type Call = (store: Store) => Promise<boolean>;

const add = fc.tuple(key, fc.constantFrom(...pools)).map(
  ([key, pool]): Call =>
    (store) =>
      store.addRunner(aNewRunner({ key, pool })),
);

function on(change: (store: Store, key: string) => Promise<boolean>): fc.Arbitrary<Call> {
  return key.map((key) => (store: Store) => change(store, key));
}

const call: fc.Arbitrary<Call> = fc.oneof(
  { weight: 3, arbitrary: add },
  { weight: 3, arbitrary: on((store, key) => store.activateRunner(key, aGivenRunner())) },
  { weight: 2, arbitrary: on((store, key) => store.retireRunner(key, "unused")) },
  { weight: 1, arbitrary: on((store, key) => store.retireRunner(key, "found", 82)) },
  { weight: 2, arbitrary: on((store, key) => store.markRunnerGone(key)) },
  { weight: 1, arbitrary: on((store, key) => store.replaceRunnerToken(key, new Secret("glrt-new"), null)) },
);

async function everything(store: Store) {
  const tokens = await Promise.all(keys.map(async (key) => (await store.runnerToken(key))?.reveal()));
  return { runners: await store.runners({ gone: true }), events: await store.events({}), tokens };
}

describe("moves of runners", () => {
  test("are those of the table and no others, and the log tells them", async () => {
    const property = fc.asyncProperty(fc.array(call, { maxLength: 40 }), async (calls) => {
      await using made = await aStore();
      const { store } = made;
      for (const each of calls) await each(store);

      const events = await store.events({});
      for (const runner of await store.runners({ gone: true })) {
        const own = events.filter(({ detail }) => "key" in detail && detail.key === runner.key);
        const states = own.map(({ kind }) => kind.slice("runner:".length) as RunnerState);
        const pairs = states.slice(1).map((to, index) => [states[index] as RunnerState, to] as const);
        expect(pairs.every(([from, to]) => canMoveRunner(from, to))).toBe(true);
        expect([states[0], states.at(-1)]).toEqual(["creating", runner.state]);
      }
    });

    await fc.assert(property, { numRuns: 60 });
  });

  test("leave one runner to a pool, and a token to those that were active and are not gone", async () => {
    const property = fc.asyncProperty(fc.array(call, { maxLength: 40 }), async (calls) => {
      await using made = await aStore();
      const { store } = made;
      for (const each of calls) await each(store);

      const live = await store.runners();
      expect(new Set(live.map(({ pool }) => pool)).size).toBe(live.length);
      for (const { key, state, activeAt } of await store.runners({ gone: true })) {
        const hasToken = (await store.runnerToken(key)) !== undefined;
        expect(hasToken).toBe(activeAt !== null && state !== "gone");
      }
    });

    await fc.assert(property, { numRuns: 60 });
  });

  test("that are refused change nothing at all", async () => {
    const property = fc.asyncProperty(fc.array(call, { maxLength: 30 }), async (calls) => {
      await using made = await aStore();
      const { store } = made;
      for (const each of calls) {
        const before = await everything(store);
        if (!(await each(store))) expect(await everything(store)).toEqual(before);
      }
    });

    await fc.assert(property, { numRuns: 60 });
  });
});
