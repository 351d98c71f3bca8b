import { describe, expect, test } from "vitest";
import { usualContainers } from "../../test/builders/pool.ts";
import { Secret } from "../base/secret.ts";
import type { PendingJob } from "../discovery/pending-job.ts";
import { normalEgress } from "../domain/egress.ts";
import { createTaggedJobViews, type TaggedJobReads } from "./tagged-jobs.ts";
import { WebhookStatusView } from "./webhook-api.ts";

const tags = ["docker", "firecracker-2cpu-4gb"];
const pending: PendingJob = {
  id: 4711,
  projectId: 7,
  project: "group/app",
  name: "build",
  createdAt: 1,
  webUrl: "https://gitlab.example.com/group/app/-/jobs/4711",
  route: {
    tags,
    size: { cpus: 2, memoryMib: 4096, diskMib: 1024 },
    kind: {
      image: "base",
      driver: "qemu",
      concurrency: 1,
      egress: normalEgress("none"),
      hostLabels: {},
      containers: usualContainers,
      diskMib: 1024,
    },
  },
};

interface World {
  readonly pools?: readonly string[];
  readonly problem?: string;
  readonly claiming?: string;
  readonly perJob?: boolean;
  readonly isProtected?: boolean;
  readonly blocker?: string;
}

function aWorld({
  pools = ["tags:docker,firecracker-2cpu-4gb"],
  problem,
  claiming,
  perJob = false,
  isProtected = false,
  blocker,
}: World = {}) {
  const webhook = {
    url: "https://firerunner.example.org/webhook",
    secrets: { apiToken: new Secret("a"), signingKeys: [new Secret("b")], tokens: [] },
    runners: { perJob, protected: isProtected, most: 50 },
  };
  const options = {
    scope: { kind: "group", name: "example/apps" },
    webhook: () => webhook,
    receiver: {
      status: () => ({ since: 1, taken: { "Job Hook": 1 }, duplicates: 0, unreadable: 0, lastAt: 2 }),
    },
    watcher: {
      status: () => ({
        projects: 1,
        due: 0,
        leftAlone: [
          {
            ...{ projectId: 7, project: "example/app", reason: "no host has so many CPUs", reads: 1 },
            job: { id: 12, name: "huge", tags: ["firecracker-64cpu-4gb"], createdAt: 3, webUrl: "https://x" },
          },
        ],
        missedByHooks: 2,
        problems: ["GitLab is down"],
        projectProblems: [],
      }),
      explain: async () => ["it waits for a runner"],
      demand: {
        pending: () => [pending],
        find: (id: number) => (id === pending.id ? pending : undefined),
        onChange: () => () => {},
      },
    },
    runners: {
      problem: () => problem,
      pools: () => new Map(pools.map((name) => [name, {}])),
    },
    hookHealth: { status: () => ({ hooks: [], problem: "there is no hook" }) },
    unservable: { blocker: () => blocker },
    token: () => null,
    budget: () => undefined,
    refused: () => ({ "wrong signature": 3 }),
    claimer: {
      status: () => [
        {
          ...{ pool: "tags:docker,firecracker-2cpu-4gb", state: "waiting", reason: claiming },
          ...{ until: undefined, fatal: false },
        },
      ],
    },
  };
  return createTaggedJobViews(options as unknown as TaggedJobReads);
}

describe("jobs by tag, seen from outside", () => {
  test("their status is what the modules say", async () => {
    const status = WebhookStatusView.parse(await aWorld().status());

    expect(status).toMatchObject({
      scope: "group example/apps",
      accepts: { signingKeys: 1, tokens: 0 },
      requests: { taken: { "Job Hook": 1 }, refused: { "wrong signature": 3 } },
      problems: ["GitLab is down", "there is no hook"],
      leftAlone: 1,
      unservable: [{ id: 12, name: "huge", project: "example/app", reason: "no host has so many CPUs" }],
      missedByHooks: 2,
      budget: null,
      mostRunners: 50,
    });
  });

  test("a job that cannot be served and is not failed although it should be says why, in the lists and in `why`", async () => {
    const world = aWorld({ blocker: "it has several tags" });

    expect((await world.status()).unservable[0]?.reason).toBe(
      "no host has so many CPUs; it has several tags",
    );
    expect(await world.explainPending(12)).toContain("it has several tags");
    expect(await world.explainPending(13)).not.toContain("it has several tags");
  });

  test("a waiting job names the pool that will serve it", () => {
    expect(aWorld().waiting()).toMatchObject([
      { id: 4711, pool: "tags:docker,firecracker-2cpu-4gb", tags, problem: "GitLab is being asked for it" },
    ]);
    expect(aWorld({ perJob: true }).waiting()).toMatchObject([{ pool: "job:4711" }]);
  });

  test.each<[World, string]>([
    [{ problem: "GitLab refused to make a runner" }, "GitLab refused to make a runner"],
    [{ pools: [] }, "its runner is being made"],
    [{ claiming: "this computer is full" }, "this computer is full"],
    [{}, "GitLab is being asked for it"],
  ])("with %j it is told why it waits, and lists say the same", async (world, words) => {
    expect(await aWorld(world).explainPending(4711)).toEqual(["it waits for a runner", words]);
    expect(aWorld(world).waiting()[0]?.problem).toBe(words);
  });

  test("where runners are protected, that is told as well", async () => {
    const words = await aWorld({ isProtected: true }).explainPending(4711);

    expect(words.at(-1)).toContain("webhook.runners.protected");
  });

  test("of another job only the watcher knows", async () => {
    expect(await aWorld().explainPending(12)).toEqual(["it waits for a runner"]);
  });
});
