import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { aClaim } from "../../test/builders/job.ts";
import { aRestGitLab, type RestGitLab } from "../../test/builders/rest-gitlab.ts";
import { aStore, type TestStore } from "../../test/builders/store.ts";
import { tagRules } from "../../test/builders/tag-rules.ts";
import { silentLog } from "../base/log.ts";
import { createManualClock, type ManualClock } from "../base/manual-clock.ts";
import { GitLabError } from "../gitlab/errors.ts";
import type { Scope } from "../gitlab/rest-api.ts";
import type { Store } from "../store/store.ts";
import { WebhookConfig } from "./config.ts";
import { createWatcher, type Watcher, type WatcherOptions } from "./watcher.ts";

const group: Scope = { kind: "group", id: 3, path: "group" };

let clock: ManualClock;
let testStore: TestStore;
let store: Store;
let gitlab: RestGitLab;
let logged: { level: string; message: string; fields: object }[];
let watcher: Watcher;

async function start(overrides: Partial<WatcherOptions> & { poll?: object; projects?: string[] } = {}) {
  const { poll, projects, ...options } = overrides;
  const note = (level: string) => (fields: object, message: string) =>
    void logged.push({ level, message, fields });
  const { poll: pollConfig, projects: named } = WebhookConfig.parse({
    ...{ group: "group", apiToken: "glpat-x", poll: poll ?? {}, projects: projects ?? [] },
  });
  watcher = createWatcher({
    store,
    rest: gitlab.rest,
    rules: () => tagRules(),
    scope: async () => group,
    clock,
    random: () => 0.5,
    config: { poll: pollConfig, projects: named },
    log: { ...silentLog, warn: note("warn"), info: note("info"), error: note("error") },
    expectsHooks: true,
    ...options,
  });
  watcher.start();
  await clock.advance(10);
}

beforeEach(async () => {
  clock = createManualClock();
  testStore = await aStore({ clock });
  store = testStore.store;
  gitlab = aRestGitLab(clock);
  logged = [];
});

afterEach(async () => {
  const stopped = watcher.stop();
  await clock.advance(1_000);
  await stopped;
  await testStore[Symbol.asyncDispose]();
});

const pending = () => watcher.demand.pending().map(({ id }) => id);
const hook = (jobId: number, status = "pending", projectId = 7) =>
  watcher.noteHook({ projectId, jobId, status });
const kinds = async (jobId: number) => (await store.events({ jobId })).map(({ kind }) => kind);
const said = (level: string) => logged.filter((each) => each.level === level).map(({ message }) => message);

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

describe("an error of GitLab", () => {
  const errors = {
    401: new GitLabError("gitlab_api_token", "the token is refused (401)"),
    403: new GitLabError("gitlab_forbidden", "forbidden (403)"),
    404: new GitLabError("gitlab_not_found", "not found (404)"),
    429: new GitLabError("gitlab_rate_limited", "too many (429)", { retryable: true, waitMs: 300_000 }),
    500: new GitLabError("gitlab_unavailable", "GitLab answers 500", { retryable: true }),
    html: new GitLabError("gitlab_wrong_url", "this is not GitLab's API"),
    pages: new GitLabError("gitlab_wrong_url", "the list has no end"),
    store: new Error("a bug"),
  };

  test.each(Object.entries(errors))("(%s) is no hot loop, is said once, and passes", async (_name, error) => {
    await start();
    const reads = gitlab.count("pendingJobs");
    gitlab.before = (call) => {
      if (call === "pendingJobs") throw error;
    };
    for (let time = 0; time < 600_000; time += 5_000) {
      hook(1);
      await clock.advance(5_000);
    }
    const { problems, projectProblems } = watcher.status();

    expect(gitlab.count("pendingJobs") - reads).toBeLessThan(25);
    expect([...problems, ...projectProblems.map(({ problem }) => problem)].join()).toContain(error.message);
    expect(said("warn").length).toBeLessThanOrEqual(2);
    gitlab.before = () => {};
    gitlab.addJob({ id: 1 });
    await clock.advance(3_700_000);
    expect(pending()).toEqual([1]);
    expect(watcher.status()).toMatchObject({ problems: [], projectProblems: [] });
  });

  test("of one project does not keep the others from being read", async () => {
    gitlab.addProject(8, "group/sick");
    await start();
    gitlab.before = (_call, subject) => {
      if (subject === "8") throw errors.pages;
    };
    for (let id = 1; id < 20; id++) {
      gitlab.addJob({ id });
      hook(id);
      hook(1_000 + id, "pending", 8);
      await clock.advance(3_000);
      expect(pending()).toHaveLength(id);
    }

    expect(watcher.status().projectProblems).toEqual([
      { project: "group/sick", problem: "the list has no end" },
    ]);
    expect(watcher.status().problems).toEqual([]);
  });

  test("that asks to wait holds up all reads for so long", async () => {
    gitlab.addProject(8, "group/other");
    await start();
    gitlab.before = (_call, subject) => {
      if (subject === "7") throw errors[429];
    };
    hook(1);
    await clock.advance(1_000);
    gitlab.before = () => {};
    const reads = gitlab.count("pendingJobs");
    hook(2, "pending", 8);
    await clock.advance(290_000);
    expect(gitlab.count("pendingJobs")).toBe(reads);
    expect(watcher.status().problems).toEqual([expect.stringContaining("GitLab asks to wait until")]);

    gitlab.addJob({ id: 1 });
    await clock.advance(10_000);
    expect(pending()).toEqual([1]);
  });

  test("such as an answer that never comes is given up, and nothing waits for it at the end", async () => {
    await start();
    gitlab.before = () => new Promise(() => {});
    hook(1);
    await clock.advance(60_100);
    gitlab.before = () => {};
    gitlab.addJob({ id: 1 });
    await clock.advance(5_000);
    expect(pending()).toEqual([1]);

    gitlab.before = () => new Promise(() => {});
    hook(2);
    await clock.advance(100);
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
