import type { WebhookPorts } from "../../src/server/routes/ports.ts";
import type { WaitingView, WebhookStatusView } from "../../src/views/webhook-api.ts";
import { aManagedRunner } from "./managed-runner.ts";

export function aWebhookStatus(overrides: Partial<WebhookStatusView> = {}): WebhookStatusView {
  return {
    scope: "group example/apps",
    url: "https://firerunner.example.org/webhook",
    accepts: { signingKeys: 1, tokens: 0 },
    requests: { since: 1, taken: { "Job Hook": 3 }, duplicates: 1, unreadable: 0, refused: {} },
    hooks: [{ id: 9, url: "https://firerunner.example.org/webhook", ok: true, words: "works" }],
    problems: [],
    missedByHooks: 0,
    leftAlone: 0,
    unservable: [],
    projectProblems: [],
    budget: { limit: 600, remaining: 590, resetsAt: 1 },
    token: { summary: "“firerunner” of bot", problems: [] },
    mostRunners: 50,
    ...overrides,
  };
}

export function aWaitingJob(overrides: Partial<WaitingView> = {}): WaitingView {
  return {
    id: 4711,
    projectId: 7,
    project: "group/app",
    name: "build",
    pool: "tags:firecracker-2cpu-4gb",
    tags: ["firecracker-2cpu-4gb"],
    createdAt: 1,
    webUrl: "https://gitlab.example.com/group/app/-/jobs/4711",
    problem: null,
    ...overrides,
  };
}

/** A provisioner that remembers in `asked` what it was asked. */
export function aWebhookPorts(asked: string[], overrides: Partial<WebhookPorts> = {}): WebhookPorts {
  return {
    status: () => aWebhookStatus(),
    waiting: () => [],
    explainPending: async () => [],
    runners: {
      async create(tags) {
        asked.push(`create ${tags.join(",")}`);
        return aManagedRunner({ tags });
      },
      async retire(key) {
        asked.push(`retire ${key}`);
        return aManagedRunner({ key, state: "retiring" });
      },
      async prune() {
        asked.push("prune");
        return ["runner r-abcd2345 is deleted"];
      },
    },
    ...overrides,
  };
}
