import { expect, test } from "vitest";
import { describeOnEveryDatabase } from "../../test/builders/databases.ts";
import { aDelivery } from "../../test/builders/delivery.ts";
import type { KnownProject } from "./delivery-store.ts";

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
