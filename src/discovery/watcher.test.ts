import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { aClaim } from "../../test/builders/job.ts";
import { tagRules } from "../../test/builders/tag-rules.ts";
import { aWatcherFixture, type WatcherFixture, type WatcherSetup } from "../../test/harness/watcher.ts";
import type { Watcher } from "./watcher.ts";

let fixture: WatcherFixture;
let clock: WatcherFixture["clock"];
let store: WatcherFixture["store"];
let gitlab: WatcherFixture["gitlab"];
let pending: WatcherFixture["pending"];
let hook: WatcherFixture["hook"];
let kinds: WatcherFixture["kinds"];
let said: WatcherFixture["said"];
let watcher: Watcher;

async function start(setup?: WatcherSetup): Promise<void> {
  watcher = await fixture.start(setup);
}

beforeEach(async () => {
  fixture = await aWatcherFixture();
  ({ clock, store, gitlab, pending, hook, kinds, said } = fixture);
});

afterEach(async () => {
  await fixture[Symbol.asyncDispose]();
});

describe("a job that waits in GitLab", () => {
  test("is found at the start, with the machine that it asks for", async () => {
    gitlab.addJob({ id: 2, tags: ["linux", "firecracker-2cpu-4gb"] });
    gitlab.addJob({ id: 1 });
    await start();

    expect(watcher.demand.pending()).toMatchObject([
      { id: 1, projectId: 7, project: "group/project" },
      { id: 2, route: { tags: ["firecracker-2cpu-4gb", "linux"], size: { cpus: 2, memoryMib: 4096 } } },
    ]);
    expect(watcher.demand.find(1)?.name).toBe("job-1");
    expect(await store.events({ jobId: 1 })).toMatchObject([
      { kind: "job:noticed", detail: { project: "group/project", name: "job-1", hook: true } },
    ]);
  });

  test("is found within a moment of its webhook, and a burst of them is one read", async () => {
    await start();
    const reads = gitlab.count("pendingJobs");
    let changes = 0;
    watcher.demand.onChange(() => changes++);
    for (let id = 1; id <= 100; id++) {
      gitlab.addJob({ id });
      hook(id);
    }
    await clock.advance(60);

    expect(pending()).toHaveLength(100);
    expect(gitlab.count("pendingJobs")).toBe(reads + 1);
    expect(changes).toBe(1);
  });

  test("is not kept waiting by hooks that do not end", async () => {
    await start();
    gitlab.addJob({ id: 1 });
    for (let time = 0; time < 300; time += 10) {
      hook(1_000 + time);
      await clock.advance(10);
    }

    expect(pending()).toEqual([1]);
  });

  test("is looked for again when GitLab's answer is behind its webhook, but not for ever", async () => {
    await start();
    const reads = gitlab.count("pendingJobs");
    hook(1);
    await clock.advance(500);
    expect(gitlab.count("pendingJobs")).toBe(reads + 1);

    gitlab.addJob({ id: 1 });
    await clock.advance(600);
    expect(pending()).toEqual([1]);
    expect(gitlab.count("pendingJobs")).toBe(reads + 2);

    hook(2);
    await clock.advance(20_000);
    expect(gitlab.count("pendingJobs")).toBe(reads + 5);
  });

  test("is found by the slow poll when no webhook came, and counted as missed, with one warning for many", async () => {
    await start();
    await clock.advance(60_000);
    gitlab.addJob({ id: 1 });
    await clock.advance(61_000);
    gitlab.addJob({ id: 2 });
    await clock.advance(75_000);

    expect(pending()).toEqual([1, 2]);
    expect(await store.events({ jobId: 1 })).toMatchObject([
      { kind: "job:noticed", detail: { hook: false } },
    ]);
    expect(watcher.status().missedByHooks).toBe(2);
    expect(said("warn")).toEqual(["a job was found of which no webhook had told"]);
  });

  test("is not counted as missed when webhooks are not expected, or came late", async () => {
    await start();
    gitlab.addJob({ id: 1 });
    await clock.advance(20_000);
    hook(1);
    await clock.advance(70_000);

    expect(pending()).toEqual([1]);
    expect(watcher.status().missedByHooks).toBe(0);
  });

  test("is left alone with a reason when no machine can run it, and not noticed when it is somebody else's", async () => {
    gitlab.addJob({ id: 1, tags: ["firecracker-64cpu-4gb"] });
    gitlab.addJob({ id: 2, tags: ["docker"] });
    await start();
    await clock.advance(130_000);

    expect(pending()).toEqual([]);
    expect(watcher.status().leftAlone).toMatchObject([
      { job: { id: 1 }, project: "group/project", reason: expect.stringContaining("maxCpus") },
    ]);
    expect(await store.events({ jobId: 1 })).toMatchObject([
      { kind: "job:left-alone", detail: { reason: expect.stringContaining("maxCpus") } },
    ]);
    expect(await kinds(2)).toEqual([]);
  });

  test("is served once the rules allow it", async () => {
    gitlab.addJob({ id: 1, tags: ["firecracker-64cpu-4gb"] });
    let maxCpus = 16;
    await start({ rules: () => tagRules({ maxCpus }) });
    maxCpus = 64;
    watcher.wake();
    await clock.advance(2_000);

    expect(pending()).toEqual([1]);
    expect(await kinds(1)).toEqual(["job:left-alone", "job:noticed"]);
  });

  test("leaves the demand as soon as it is claimed, also for lists that still name it", async () => {
    gitlab.addJob({ id: 1 });
    await start();
    const answer = Promise.withResolvers<void>();
    gitlab.before = () => answer.promise;
    watcher.wake(7);
    await clock.advance(100);
    await store.claim(aClaim({ jobId: 1 }));
    expect(pending()).toEqual([]);

    answer.resolve();
    await clock.advance(130_000);
    expect(pending()).toEqual([]);
    expect(await kinds(1)).toEqual(["job:noticed", "job:claimed"]);
  });

  test("that was claimed by an earlier process is not offered again", async () => {
    await store.claim(aClaim({ jobId: 1 }));
    gitlab.addJob({ id: 1 });
    await start();

    expect(pending()).toEqual([]);
  });

  test("is said to wait no more when somebody else has taken it", async () => {
    gitlab.addJob({ id: 1 }).status = "pending";
    await start();
    (gitlab.jobs.get(1) as { status: string }).status = "running";
    hook(1, "running");
    await clock.advance(100);
    expect(pending()).toEqual([]);
    await clock.advance(15_000);

    expect(await kinds(1)).toEqual(["job:noticed", "job:no-longer-pending"]);
  });

  test("is told of once, also over a restart", async () => {
    gitlab.addJob({ id: 1 });
    gitlab.addJob({ id: 2, tags: ["firecracker-64cpu-4gb"] });
    await start();
    await watcher.stop();
    await start();
    await clock.advance(130_000);

    expect([await kinds(1), await kinds(2)]).toEqual([["job:noticed"], ["job:left-alone"]]);
  });
});

describe("an explanation", () => {
  test("of a job that waits names its tags and its size", async () => {
    gitlab.addJob({ id: 1 });
    await start();

    expect(await watcher.explain(1)).toEqual([
      "it waits for a runner with the tags firecracker-2cpu-4gb, and asks for 2 CPUs, 4 GiB",
    ]);
  });

  test("of a job that is left alone names the reason", async () => {
    gitlab.addJob({ id: 1, tags: ["firecracker-64cpu-4gb"] });
    await start();

    expect(await watcher.explain(1)).toEqual([expect.stringContaining("maxCpus")]);
  });

  test.each([
    [
      { tags: ["docker"] },
      "it has the tags docker, and none names a machine of ours, such as firecracker-2cpu-4gb",
    ],
    [{ tags: [] }, "it has no tags, and none names a machine of ours, such as firecracker-2cpu-4gb"],
    [{ status: "manual" }, "in GitLab it waits for somebody to start it by hand"],
    [{ status: "canceled" }, "it was canceled in GitLab"],
    [{ status: "preparing" }, "in GitLab it is preparing, and so not waiting for a runner"],
  ])("of a job with %j that only GitLab knows is read there", async (job, words) => {
    gitlab.addJob({ id: 1, ...job });
    gitlab.addProject(8, "group/other");
    await start();
    await store.keepDeliveries([{ key: "d", event: "Job Hook", projectId: 7, jobId: 1, status: "created" }]);

    expect(await watcher.explain(1)).toEqual([words]);
  });

  test("of a job that nobody knows is empty, and one that cannot be read says so", async () => {
    gitlab.addProject(8, "group/other");
    await start();
    await store.keepDeliveries([{ key: "d", event: "Job Hook", projectId: 7, jobId: 2, status: "created" }]);

    expect(await watcher.explain(1)).toEqual([]);
    expect(await watcher.explain(2)).toEqual([expect.stringContaining("cannot be read")]);
  });
});
