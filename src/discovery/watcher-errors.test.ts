import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { aWatcherFixture, type WatcherFixture, type WatcherSetup } from "../../test/harness/watcher.ts";
import { GitLabError } from "../gitlab/errors.ts";
import type { Watcher } from "./watcher.ts";

let fixture: WatcherFixture;
let clock: WatcherFixture["clock"];
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
  ({ clock, gitlab, pending, hook, said } = fixture);
});

afterEach(async () => {
  await fixture[Symbol.asyncDispose]();
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
