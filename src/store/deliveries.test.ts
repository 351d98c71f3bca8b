import { describe, expect, test } from "vitest";
import { describeOnEveryDatabase } from "../../test/builders/databases.ts";
import { aDelivery } from "../../test/builders/delivery.ts";
import { aStore } from "../../test/builders/store.ts";

describeOnEveryDatabase("deliveries", (context) => {
  test("are kept as they came, newest first, with the time of their receipt", async () => {
    const { store, clock } = context;
    const first = clock.now();
    await store.keepDeliveries([aDelivery({ key: "a" })]);
    await clock.advance(5_000);
    const pipeline = { event: "Pipeline Hook", projectId: null, jobId: null, status: null };
    await store.keepDeliveries([aDelivery({ key: "b", ...pipeline })]);

    expect(await store.deliveries()).toEqual([
      { key: "b", ...pipeline, receivedAt: first + 5_000 },
      { ...aDelivery({ key: "a" }), receivedAt: first },
    ]);
  });

  test("are new once, also after a restart", async () => {
    expect(await context.store.keepDeliveries([aDelivery({ key: "a" })])).toEqual([true]);
    expect(await context.store.keepDeliveries([aDelivery({ key: "a" })])).toEqual([false]);
    await context.reopen();

    expect(await context.store.keepDeliveries([aDelivery({ key: "a" }), aDelivery({ key: "b" })])).toEqual([
      false,
      true,
    ]);
    expect(await context.store.deliveries()).toHaveLength(2);
  });

  test("that come twice in one batch are new the first time", async () => {
    const batch = ["a", "b", "a", "b", "c"].map((key) => aDelivery({ key }));

    expect(await context.store.keepDeliveries(batch)).toEqual([true, true, false, false, true]);
    expect((await context.store.deliveries()).map(({ key }) => key)).toEqual(["c", "b", "a"]);
  });

  test("of one millisecond keep the order in which they came, over many statements", async () => {
    const keys = Array.from({ length: 205 }, (_, index) => `key-${index}`);
    await context.store.keepDeliveries(keys.slice(0, 200).map((key) => aDelivery({ key })));
    const answers = await context.store.keepDeliveries(keys.slice(190).map((key) => aDelivery({ key })));

    expect(answers).toEqual([...Array(10).fill(false), ...Array(5).fill(true)]);
    const listed = (await context.store.deliveries({ limit: 1_000 })).map(({ key }) => key);
    expect(listed).toEqual(keys.toReversed());
  });

  test("an empty batch is no work", async () => {
    expect(await context.store.keepDeliveries([])).toEqual([]);
  });

  test("are listed by time, and no more than asked for", async () => {
    const { store, clock } = context;
    for (const key of ["a", "b", "c"]) {
      await store.keepDeliveries([aDelivery({ key })]);
      await clock.advance(1_000);
    }

    const since = await store.deliveries({ since: clock.now() - 2_000 });
    expect(since.map(({ key }) => key)).toEqual(["c", "b"]);
    expect((await store.deliveries({ limit: 1 })).map(({ key }) => key)).toEqual(["c"]);
  });

  test("the last one about a job is found", async () => {
    const { store } = context;
    await store.keepDeliveries([
      aDelivery({ key: "a", jobId: 1, status: "created" }),
      aDelivery({ key: "b", jobId: 2, status: "created" }),
      aDelivery({ key: "c", jobId: 1, status: "pending" }),
    ]);

    expect(await store.deliveryOfJob(1)).toMatchObject({ key: "c", status: "pending" });
    expect(await store.deliveryOfJob(3)).toBeUndefined();
  });

  test("texts and numbers that no database takes do not keep the rest of the batch out", async () => {
    const odd = aDelivery({
      key: `${"k".repeat(199)}\u{1f680}`,
      event: `Job\0${"e".repeat(100)}`,
      status: "\ud800",
      projectId: 1e300,
      jobId: 0.5,
    });

    expect(await context.store.keepDeliveries([odd, aDelivery({ key: "b" })])).toEqual([true, true]);
    expect(await context.store.keepDeliveries([odd])).toEqual([false]);
    const [, kept] = await context.store.deliveries();
    expect(kept?.key).toHaveLength(200);
    expect(kept).toMatchObject({ projectId: null, jobId: null, status: "\ufffd" });
    expect(kept?.event).toBe(`Job\ufffd${"e".repeat(60)}`);
  });

  test("tell their project of news once, whether or not it was known", async () => {
    const { store, clock } = context;
    await store.noteProjects([{ id: 7, path: "group/project" }]);
    await store.keepDeliveries([7, 9, 9].map((projectId, n) => aDelivery({ key: `${n}`, projectId })));
    const hookedAt = clock.now();
    await clock.advance(1_000);
    await store.keepDeliveries([aDelivery({ key: "0", projectId: 7 })]);

    expect(await store.projects()).toEqual([
      { id: 7, path: "group/project", hookedAt, readAt: null },
      { id: 9, path: "", hookedAt, readAt: null },
    ]);
  });
});

describe("many deliveries at once", () => {
  test("are batches of the same few statements, whatever their number", async () => {
    await using made = await aStore();
    const { store } = made;
    let next = 0;
    for (const size of [1, 7, 63, 64, 65, 500, 1_234]) {
      const batch = Array.from({ length: size }, () => aDelivery({ key: `${next++}`, projectId: next }));
      expect(await store.keepDeliveries(batch)).toEqual(batch.map(() => true));
    }

    expect(await store.deliveries({ limit: 10_000 })).toHaveLength(next);
    expect(await store.projects()).toHaveLength(next);
  });
});
