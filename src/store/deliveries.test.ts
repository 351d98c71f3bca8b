import { describe, expect, test } from "vitest";
import { describeOnEveryDatabase } from "../../test/builders/databases.ts";
import { aDelivery } from "../../test/builders/delivery.ts";
import { aStore } from "../../test/builders/store.ts";
import type { KnownProject } from "./jobs-by-tag.ts";

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

const isDue = ({ hookedAt, readAt }: KnownProject) =>
  hookedAt !== null && (readAt === null || hookedAt >= readAt);

describeOnEveryDatabase("projects", (context) => {
  let deliveries = 0;

  async function news(projectId: number): Promise<void> {
    await context.store.keepDeliveries([aDelivery({ key: `delivery-${deliveries++}`, projectId })]);
  }

  async function project(): Promise<KnownProject> {
    const [only] = await context.store.projects();
    if (!only) throw new Error("there is no project");
    return only;
  }

  test("are listed by id, with the path that was said last", async () => {
    const { store } = context;
    await store.noteProjects([]);
    await store.noteProjects([
      { id: 12, path: "group/b" },
      { id: 3, path: "group/old" },
      { id: 3, path: "group/a" },
    ]);
    await store.noteProjects([{ id: 12, path: "group/moved" }]);

    expect((await store.projects()).map(({ id, path }) => [id, path])).toEqual([
      [3, "group/a"],
      [12, "group/moved"],
    ]);
  });

  test("a path does not touch what is known of hooks and readings, and a hook not the path", async () => {
    const { store, clock } = context;
    await news(7);
    const hookedAt = clock.now();
    await clock.advance(10);
    await store.noteProjectRead(7, clock.now());
    await store.noteProjects([{ id: 7, path: "group/a" }]);

    expect(await project()).toEqual({ id: 7, path: "group/a", hookedAt, readAt: clock.now() });
    await news(7);
    expect(await project()).toMatchObject({ path: "group/a", hookedAt: clock.now() });
  });

  test("news that came while a project was being read keep it due", async () => {
    const { store, clock } = context;
    await news(7);
    await clock.advance(10);
    const beganAt = clock.now();
    await news(7);
    await clock.advance(10);
    await store.noteProjectRead(7, beganAt);

    expect(isDue(await project())).toBe(true);
    await store.noteProjectRead(7, clock.now());
    expect(isDue(await project())).toBe(false);
  });

  test("readings that end in another order than they began leave the later one", async () => {
    const { store, clock } = context;
    await news(7);
    await clock.advance(100);
    await store.noteProjectRead(7, clock.now() - 10);
    await store.noteProjectRead(7, clock.now() - 50);

    expect(await project()).toMatchObject({ readAt: clock.now() - 10 });
  });

  test("the reading of a project that was forgotten meanwhile does not bring it back", async () => {
    await news(7);
    await context.store.forgetProject(7);
    await context.store.noteProjectRead(7, context.clock.now());
    await context.store.forgetProject(7);

    expect(await context.store.projects()).toEqual([]);
  });

  test("a clock that is set back neither hides news nor makes a project due for ever", async () => {
    const { store, clock } = context;
    await news(7);
    await clock.advance(3_600_000);
    await store.noteProjectRead(7, clock.now());
    await news(7);
    await clock.advance(-3_600_000);
    await clock.advance(50);
    await news(7);

    expect(isDue(await project())).toBe(true);
    await clock.advance(50);
    await store.noteProjectRead(7, clock.now());
    expect(isDue(await project())).toBe(false);

    await clock.advance(3_600_000);
    await news(7);
    await clock.advance(-3_600_000);
    await clock.advance(100);
    expect(isDue(await project())).toBe(true);
    await store.noteProjectRead(7, clock.now());
    expect(isDue(await project())).toBe(false);
  });
});
