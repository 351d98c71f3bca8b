import { describe, expect, test } from "vitest";
import { aWaitingJob, aWebhookStatus } from "../../test/builders/webhook-ports.ts";
import { HOUR_MS, MINUTE_MS } from "../base/units.ts";
import type { JobView, Status } from "./api.ts";
import { checkLine, checkStatus } from "./check.ts";
import type { WebhookStatus } from "./webhook-api.ts";

const now = 10 * HOUR_MS;
const limits = { warningWaitMs: 10 * MINUTE_MS, criticalWaitMs: HOUR_MS };
const size = { cpus: 2, memoryMib: 4096, diskMib: 1024 };
const counts = { running: 0, starting: 0, queued: 0, waiting: 0 };

const pool: Status["pools"][number] = {
  ...{ name: "small", origin: "configured", ok: true, problems: [], accelerator: "kvm", driver: "qemu" },
  ...{ image: "base", size, limit: 4, room: { machines: 4, byDisk: 4, note: null }, claiming: "polling" },
  ...counts,
};
const broken = { ...pool, name: "large", ok: false, problems: [{ problem: "it has no image", hint: null }] };
const host: Status["hosts"][number] = {
  ...{ key: "qemu", driver: "qemu", host: "local", labels: {}, drained: false, problem: null, hint: null },
  taken: { cpus: 2, memoryMib: 4096, machines: 1, diskMib: 1024 },
  capacity: { cpus: 8, memoryMib: 16_384, machines: 4, diskMib: null },
};
const job = { state: "claimed", claimedAt: now - 20 * MINUTE_MS } as JobView;

function webhook(change: Partial<WebhookStatus>): WebhookStatus {
  return {
    ...aWebhookStatus(),
    ...{ listeners: [], doors: [], lastDelivery: null, projects: { known: 1, due: 0 } },
    ...{ runners: { creating: 0, active: 0, retiring: 0 }, waiting: [], ...change },
  };
}

function aStatus(change: Partial<Status> = {}): Status {
  return {
    ...{ version: "1", pid: 1, startedAt: 0, mode: "run", configFile: null, stateDirectory: "/state" },
    ...{ gitlabUrl: "https://gitlab.example.com", gitlabProblem: null, pools: [pool], hosts: [host] },
    ...{ fetching: [], troubles: [], caches: [], unfinished: [], liveMachines: 1, recent: [] },
    ...{ publicServer: null, door: null, webhook: null, ...change },
  };
}

const cases: readonly (readonly [string, Partial<Status>, string, string])[] = [
  ["all is well", {}, "ok", "0 running"],
  ["a job runs", { unfinished: [{ ...job, state: "running", claimedAt: 0 }] }, "ok", "1 running"],
  [
    "GitLab does not answer",
    { gitlabProblem: "GitLab has not answered since" },
    "critical",
    "GitLab has not",
  ],
  ["one pool of two is broken", { pools: [pool, broken] }, "warning", "pool large: it has no image"],
  ["every pool is broken", { pools: [broken] }, "critical", "pool large: it has no image"],
  ["there is no pool", { pools: [] }, "warning", "no pool is configured"],
  ["jobs by tag have no pool yet", { pools: [], webhook: webhook({}) }, "ok", "0 of 0 pools"],
  [
    "the only host is sick",
    { hosts: [{ ...host, problem: "no answer" }] },
    "critical",
    "host local: no answer",
  ],
  [
    "a host nobody uses is sick",
    {
      hosts: [
        host,
        { ...host, key: "x", driver: "other", taken: { ...host.taken, machines: 0 }, problem: "-" },
      ],
    },
    "ok",
    "",
  ],
  [
    "one host of two is sick",
    { hosts: [host, { ...host, host: "b", problem: "ill" }] },
    "warning",
    "host b: ill",
  ],
  ["it drains", { mode: "drain" }, "warning", "draining"],
  ["a job waits for a while", { unfinished: [job] }, "warning", "waited for 20m0s"],
  [
    "a job boots for hours",
    { unfinished: [{ ...job, state: "starting", claimedAt: 0 }] },
    "critical",
    "10h0m",
  ],
  [
    "one waits in GitLab",
    { webhook: webhook({ waiting: [aWaitingJob({ createdAt: now - HOUR_MS })] }) },
    "critical",
    "waited for 1h0m",
  ],
  ["one cannot be served", { webhook: webhook({ leftAlone: 1 }) }, "warning", "cannot be had"],
  [
    "a hook is off",
    { webhook: webhook({ hooks: [{ id: 9, url: "", ok: false, words: "switched off" }] }) },
    "warning",
    "hook 9: switched off",
  ],
  ["something is tried again", { troubles: ["destroy fr-a: busy"] }, "warning", "destroy fr-a: busy"],
  [
    "a token is refused",
    { pools: [{ ...pool, tokenNote: { problem: "GitLab refused its token", hint: null } }] },
    "warning",
    "refused its token",
  ],
  [
    "disk allows no machine",
    { pools: [{ ...pool, room: { machines: 0, byDisk: 0, note: "disk allows no machine" } }] },
    "warning",
    "disk allows no machine",
  ],
];

describe("the verdict", () => {
  test.each(cases)("when %s", (_name, change, level, holds) => {
    const verdict = checkStatus(aStatus(change), now, limits);

    expect(verdict.level).toBe(level);
    expect(checkLine(verdict)).toContain(`FIRERUNNER ${level.toUpperCase()} - `);
    expect(checkLine(verdict)).toContain(holds);
  });

  test("is one line that a monitoring system can take apart, whatever words are in it", () => {
    const troubles = [
      "a | b\nc\u001b[31m",
      ...Array.from({ length: 9 }, (_, at) => `no. ${at}`),
      "x".repeat(999),
    ];
    const line = checkLine(checkStatus(aStatus({ troubles, unfinished: [job] }), now, limits));
    const [text = "", data = "", ...more] = line.split(" | ");

    expect(line).not.toContain("\n");
    expect(line).not.toContain("\u001b");
    expect(more).toEqual([]);
    expect(text).toContain("9 more (firerunner status)");
    expect(text.length).toBeLessThan(450);
    for (const each of data.split(" ")) expect(each).toMatch(/^[a-z_]+=\d+[sB]?(;\d*){0,4}$/);
    expect(data).toContain("oldest_wait=1200s;600;3600;0");
    expect(data).toContain("vcpus=2;;;0;8");
    expect(data).toContain(`memory=${4 * 1024 ** 3}B;;;0;${16 * 1024 ** 3}`);
  });

  test("tells of one fault once", () => {
    const publicServer = { addresses: [], problems: ["pool large: it has no image (build one)"] };
    const { problems } = checkStatus(aStatus({ pools: [broken], publicServer }), now, limits);

    expect(problems).toHaveLength(1);
  });
});
