import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { aWatcherFixture, type WatcherFixture, type WatcherSetup } from "../../test/harness/watcher.ts";
import { GitLabError } from "../gitlab/errors.ts";
import type { Watcher } from "./watcher.ts";

let fixture: WatcherFixture;
let clock: WatcherFixture["clock"];
let store: WatcherFixture["store"];
let gitlab: WatcherFixture["gitlab"];
let pending: WatcherFixture["pending"];
let hook: WatcherFixture["hook"];
let said: WatcherFixture["said"];
let watcher: Watcher;

async function start(setup?: WatcherSetup): Promise<void> {
  watcher = await fixture.start(setup);
}

beforeEach(async () => {
  fixture = await aWatcherFixture();
  ({ clock, store, gitlab, pending, hook, said } = fixture);
});

afterEach(async () => {
  await fixture[Symbol.asyncDispose]();
});

describe("which projects are looked at", () => {
  test("all of the group, and hourly anew", async () => {
    gitlab.addProject(8, "group/sub/other");
    gitlab.addProject(9, "elsewhere/project");
    for (const projectId of [7, 8, 9]) gitlab.addJob({ id: projectId, projectId });
    await start();
    expect(pending()).toEqual([7, 8]);

    gitlab.addProject(10, "group/new");
    gitlab.addJob({ id: 10, projectId: 10 });
    await clock.advance(3_700_000);
    expect(pending()).toEqual([7, 8, 10]);
  });

  test("one that is new and sends a webhook, at once", async () => {
    await start();
    gitlab.addProject(10, "group/new");
    gitlab.addJob({ id: 1, projectId: 10 });
    hook(1, "pending", 10);
    await clock.advance(100);

    expect(pending()).toEqual([1]);
    expect(await store.projects()).toMatchObject([{ id: 7 }, { id: 10, path: "group/new" }]);
  });

  test.each([
    ["does not belong to the group", "elsewhere/project", "it does not belong to group group"],
    ["cannot be seen", undefined, expect.stringContaining("404")],
  ])("not one that %s, which is said once", async (_what, path, problem) => {
    await start();
    if (path !== undefined) gitlab.addProject(10, path);
    gitlab.addJob({ id: 1, projectId: 10 });
    for (let time = 0; time < 50; time++) {
      hook(time, "pending", 10);
      await clock.advance(100);
    }

    expect(pending()).toEqual([]);
    expect(gitlab.count("findProject")).toBe(1);
    expect(said("warn")).toEqual(["a project is not served"]);
    expect(watcher.status().projectProblems).toEqual([{ project: path ?? "project 10", problem }]);
  });

  test("those that the configuration names, and it is said when one cannot be", async () => {
    await start({ projects: ["group/project", "group/missing", "9"] });
    expect(watcher.status().projectProblems.map(({ project }) => project)).toEqual(["group/missing", "9"]);
  });

  test("not one that is gone, and it is asked for ever less often", async () => {
    await start();
    gitlab.jobs.clear();
    gitlab.projects.clear();
    const reads = gitlab.count("pendingJobs");
    await clock.advance(3_000_000);

    expect(gitlab.count("pendingJobs") - reads).toBeLessThan(6);
    expect(watcher.status().projects).toBe(0);
    expect(await store.projects()).toEqual([]);
  });

  test("the whole list again as soon as GitLab can be asked", async () => {
    gitlab.before = () => {
      throw new GitLabError("gitlab_unreachable", "GitLab cannot be reached", { retryable: true });
    };
    gitlab.addJob({ id: 1 });
    await start();
    await clock.advance(3_600_000);
    expect(gitlab.asked.length).toBeLessThan(40);
    expect(watcher.status()).toMatchObject({ problems: ["GitLab cannot be reached"], canFind: false });

    gitlab.before = () => {};
    await clock.advance(600_000);
    expect(pending()).toEqual([1]);
    expect(watcher.status()).toMatchObject({ problems: [], canFind: true });
  });
});

describe("when every one of many is read", () => {
  test("those with webhooks come first, and the rest keeps to the rate", async () => {
    for (let id = 100; id < 400; id++) gitlab.addProject(id, `group/p${id}`);
    await start({ poll: { requestsPerMinute: 60 } });
    await clock.advance(10_000);
    gitlab.addJob({ id: 1, projectId: 399 });
    hook(1, "pending", 399);
    await clock.advance(2_100);

    expect(pending()).toEqual([1]);
    await clock.advance(110_000);
    expect(gitlab.count("pendingJobs")).toBeLessThan(60 * 2 + 10);
  });

  test("each has its turn, though one of them sends hooks without end", async () => {
    for (let id = 100; id < 110; id++) gitlab.addProject(id, `group/p${id}`);
    await start({ poll: { requestsPerMinute: 60 } });
    for (let time = 0; time < 900_000; time += 500) {
      hook(1_000_000 + time);
      await clock.advance(500);
    }
    for (let id = 100; id < 110; id++) expect(gitlab.count(`pendingJobs ${id}`)).toBeGreaterThan(1);
  });

  test("it goes slower while GitLab's own limit is nearly used up, and says so", async () => {
    for (let id = 100; id < 400; id++) gitlab.addProject(id, `group/p${id}`);
    await start({ poll: { requestsPerMinute: 600 } });
    await clock.advance(100);
    gitlab.budget = { limit: 2_000, remaining: 100, resetsAt: clock.now() + 20_000 };
    const before = gitlab.count("pendingJobs");
    await clock.advance(10_000);

    expect(gitlab.count("pendingJobs") - before).toBeLessThan(45);
    expect(watcher.status()).toMatchObject({
      problems: [expect.stringContaining("only 100 of 2000 requests")],
      canFind: true,
    });
    await clock.advance(11_000);
    expect(watcher.status().problems).toEqual([]);
  });

  test("no more than a few are read at one time", async () => {
    for (let id = 100; id < 150; id++) gitlab.addProject(id, `group/p${id}`);
    const answer = Promise.withResolvers<void>();
    gitlab.before = (call) => (call === "pendingJobs" ? answer.promise : undefined);
    await start();
    await clock.advance(10_000);

    expect(gitlab.count("pendingJobs")).toBe(4);
    answer.resolve();
  });
});
