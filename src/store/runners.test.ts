import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { describeOnEveryDatabase } from "../../test/builders/databases.ts";
import { aGivenRunner, aNewRunner } from "../../test/builders/managed-runner.ts";
import { aStore } from "../../test/builders/store.ts";
import { Secret } from "../base/secret.ts";
import { canMoveRunner, type RunnerState } from "../domain/states.ts";
import type { ManagedRunner } from "./jobs-by-tag.ts";
import type { Store } from "./store.ts";

describeOnEveryDatabase("runners", (context) => {
  async function add(key: string, overrides: Parameters<typeof aNewRunner>[0] = {}): Promise<boolean> {
    return await context.store.addRunner(aNewRunner({ key, pool: `tags:${key}`, ...overrides }));
  }

  async function addActive(key: string, gitlabId = 81): Promise<void> {
    await add(key);
    await context.store.activateRunner(key, aGivenRunner({ gitlabId }));
  }

  async function runner(key: string): Promise<ManagedRunner | undefined> {
    return (await context.store.runners({ gone: true })).find((each) => each.key === key);
  }

  async function tokenOf(key: string): Promise<string | undefined> {
    return (await context.store.runnerToken(key))?.reveal();
  }

  test("a runner is a row before GitLab is asked for it", async () => {
    const { store, clock } = context;
    const added = aNewRunner({ tags: ["Firecracker-1cpu-1gb", "tag, with “signs”"], jobId: 4711 });

    expect(await store.addRunner(added)).toBe(true);
    expect(await store.runners()).toEqual([
      {
        ...added,
        ...{ gitlabId: null, state: "creating", tokenExpiresAt: null, activeAt: null, verifiedAt: null },
        ...{ createdAt: clock.now(), usedAt: clock.now(), reason: null },
      },
    ]);
    expect(await tokenOf(added.key)).toBeUndefined();
  });

  test("a key is used once, and a pool has one runner at a time", async () => {
    expect(await add("r-1", { pool: "tags:a" })).toBe(true);
    expect(await add("r-1", { pool: "tags:b" })).toBe(false);
    expect(await add("r-2", { pool: "tags:a" })).toBe(false);
    await context.store.retireRunner("r-1", "unused");
    expect(await add("r-2", { pool: "tags:a" })).toBe(false);
    await context.store.markRunnerGone("r-1");

    expect(await add("r-2", { pool: "tags:a" })).toBe(true);
    expect(await add("r-1", { pool: "tags:c" })).toBe(false);
    expect((await context.store.runners()).map(({ key }) => key)).toEqual(["r-2"]);
  });

  test("a pool of fifty long tags is as good as any", async () => {
    const tags = Array.from({ length: 50 }, (_, index) => `${index}-${crypto.randomUUID().repeat(6)}`);
    const pool = `tags:${tags.join(",")}`;

    expect(await add("r-1", { tags, pool })).toBe(true);
    expect(await add("r-2", { tags, pool })).toBe(false);
    expect(await runner("r-1")).toMatchObject({ tags, pool });
  });

  test("with GitLab's answer it is active, and its token survives a restart", async () => {
    const { clock } = context;
    await add("r-1");
    await clock.advance(500);
    const given = aGivenRunner({ gitlabId: 9_171, tokenExpiresAt: clock.now() + 1_000 });

    expect(await context.store.activateRunner("r-1", given)).toBe(true);
    expect(await context.store.activateRunner("r-1", given)).toBe(false);
    await context.reopen();
    expect(await runner("r-1")).toMatchObject({
      state: "active",
      gitlabId: 9_171,
      tokenExpiresAt: clock.now() + 1_000,
      activeAt: clock.now(),
    });
    expect(await tokenOf("r-1")).toBe(given.token.reveal());
  });

  test("only an active runner gets another token", async () => {
    const other = new Secret("glrt-another");
    await add("r-1");
    expect(await context.store.replaceRunnerToken("r-1", other, 5)).toBe(false);
    expect(await tokenOf("r-1")).toBeUndefined();
    await context.store.activateRunner("r-1", aGivenRunner());

    expect(await context.store.replaceRunnerToken("r-1", other, 5)).toBe(true);
    expect(await tokenOf("r-1")).toBe("glrt-another");
    expect(await runner("r-1")).toMatchObject({ state: "active", tokenExpiresAt: 5 });
    await context.store.retireRunner("r-1", "unused");
    expect(await context.store.replaceRunnerToken("r-1", new Secret("glrt-late"), null)).toBe(false);
    expect(await tokenOf("r-1")).toBe("glrt-another");
  });

  test("one that retires keeps its token until it is gone", async () => {
    await addActive("r-1");

    expect(await context.store.markRunnerGone("r-1")).toBe(false);
    expect(await context.store.retireRunner("r-1", "no job\0has asked for it")).toBe(true);
    expect(await context.store.retireRunner("r-1", "again")).toBe(false);
    expect(await runner("r-1")).toMatchObject({ state: "retiring", reason: "no job\ufffdhas asked for it" });
    expect(await tokenOf("r-1")).toBeDefined();
    expect(await context.store.markRunnerGone("r-1")).toBe(true);
    expect(await tokenOf("r-1")).toBeUndefined();
    expect(await context.store.retireRunner("r-1", "late", 5)).toBe(false);
    expect(await context.store.activateRunner("r-1", aGivenRunner())).toBe(false);
  });

  test("one whose answer was lost learns its id when it is found, also while it retires", async () => {
    await add("r-1");
    await add("r-2");
    await addActive("r-3", 83);

    expect(await context.store.retireRunner("r-1", "its answer was lost", 81)).toBe(true);
    expect(await context.store.retireRunner("r-2", "its answer was lost")).toBe(true);
    expect(await context.store.retireRunner("r-2", "found", 82)).toBe(true);
    expect(await context.store.retireRunner("r-2", "found", 99)).toBe(false);
    await context.store.retireRunner("r-3", "unused", 99);
    const found = (await context.store.runners()).map(({ gitlabId, reason }) => [gitlabId, reason]);
    expect(found).toEqual([
      [81, "its answer was lost"],
      [82, "its answer was lost"],
      [83, "unused"],
    ]);
  });

  test("its use and its verification are noted, never back", async () => {
    const { store, clock } = context;
    await addActive("r-1");
    const later = clock.now() + 1_000;
    await store.noteRunnerUsed("r-1", later);
    await store.noteRunnerUsed("r-1", later - 500);
    await store.noteRunnerVerified("r-1", later);
    await store.noteRunnerVerified("r-1", later - 500);

    expect(await runner("r-1")).toMatchObject({ usedAt: later, verifiedAt: later });
  });

  test("live ones are listed oldest first, and those that are gone when asked for", async () => {
    for (const key of ["r-b", "r-a", "r-c"]) {
      await add(key);
      await context.clock.advance(10);
    }
    await context.store.markRunnerGone("r-a");

    expect((await context.store.runners()).map(({ key }) => key)).toEqual(["r-b", "r-c"]);
    const all = await context.store.runners({ gone: true });
    expect(all.map(({ key, state }) => `${key} ${state}`)).toEqual([
      "r-b creating",
      "r-a gone",
      "r-c creating",
    ]);
    expect(all.every((each) => !("poolDigest" in each || "goneAt" in each))).toBe(true);
  });

  test("of those that are gone, the last hundred are listed", async () => {
    for (let index = 0; index < 105; index++) {
      await add(`r-${index}`);
      await context.store.markRunnerGone(`r-${index}`);
      await context.clock.advance(1);
    }

    const listed = await context.store.runners({ gone: true });
    expect([listed.length, listed[0]?.key]).toEqual([100, "r-5"]);
  });

  test("every move is an event of the same transaction, about the runner's job where it has one", async () => {
    await add("r-1", { pool: "job:4711", jobId: 4711, tags: ["a"] });
    await context.store.activateRunner("r-1", aGivenRunner({ gitlabId: 81 }));
    await context.store.retireRunner("r-1", "its job has ended");
    await context.store.markRunnerGone("r-1");

    const events = await context.store.events({ jobId: 4711 });
    expect(events.map(({ kind, detail }) => [kind, detail])).toEqual([
      ["runner:creating", { key: "r-1", pool: "job:4711", tags: ["a"] }],
      ["runner:active", { key: "r-1", runner: 81, pool: "job:4711" }],
      ["runner:retiring", { key: "r-1", runner: 81, reason: "its job has ended" }],
      ["runner:gone", { key: "r-1", runner: 81 }],
    ]);
    expect(JSON.stringify(events)).not.toContain("glrt-");
  });

  test("a runner that never was is neither moved nor noted", async () => {
    const { store } = context;

    expect(await store.activateRunner("r-none", aGivenRunner())).toBe(false);
    expect(await store.retireRunner("r-none", "unused", 1)).toBe(false);
    expect(await store.markRunnerGone("r-none")).toBe(false);
    await store.noteRunnerUsed("r-none", 1);
    expect(await store.runnerToken("r-none")).toBeUndefined();
    expect(await store.events({})).toEqual([]);
  });
});

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
