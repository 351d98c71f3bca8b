import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Agent, request } from "undici";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { aControlPorts } from "../../../test/builders/control-ports.ts";
import { aClaim } from "../../../test/builders/job.ts";
import { aStore, type TestStore } from "../../../test/builders/store.ts";
import { aWaitingJob, aWebhookPorts, aWebhookStatus } from "../../../test/builders/webhook-ports.ts";
import { systemClock } from "../../base/clock.ts";
import { silentLog } from "../../base/log.ts";
import { createManualClock } from "../../base/manual-clock.ts";
import { Secret } from "../../base/secret.ts";
import { type DaemonStatus, Status } from "../../views/api.ts";
import { createViews } from "../../views/views.ts";
import { DeliveryList, RunnerList, WebhookStatus } from "../../views/webhook-api.ts";
import { type ControlServer, openControlServer } from "../control/control-server.ts";
import type { ControlPorts } from "./ports.ts";

const clock = createManualClock();
const pool = "tags:firecracker-2cpu-4gb";
let directory: string;
let kept: TestStore;
let server: ControlServer | undefined;
let agent: Agent;
let asked: string[];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "fr-http-"));
  kept = await aStore({ clock });
  agent = new Agent({ connect: { socketPath: join(directory, "control.sock") } });
  asked = [];
});

afterEach(async () => {
  await agent.destroy();
  await server?.close();
  server = undefined;
  await kept[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

function aPool(name: string): DaemonStatus["pools"][number] {
  const size = { cpus: 2, memoryMib: 4096, diskMib: 1024 };
  const rest = {
    accelerator: "kvm",
    driver: "qemu",
    image: "base",
    limit: 4,
    room: { machines: 4, byDisk: 4, note: null },
    claiming: "polling",
  };
  const origin = name === "small" ? "configured" : "tags";
  return { name, origin, ok: true, problems: [], size, ...rest };
}

async function open(change: Partial<ControlPorts> = {}): Promise<void> {
  const status: DaemonStatus = {
    version: "1.2.3",
    pid: 42,
    startedAt: 1,
    mode: "run",
    configFile: null,
    stateDirectory: "/state",
    gitlabUrl: "https://gitlab.example.com",
    gitlabProblem: null,
    pools: [aPool("small"), aPool(pool), aPool("tags:firecracker-8cpu-16gb")],
    hosts: [],
    fetching: [],
    troubles: [],
    caches: [],
  };
  const ports: ControlPorts = {
    ...aControlPorts(),
    status: () => status,
    publicServer: {
      addresses: () => ["https://127.0.0.1:8443"],
      readiness: () => ({ ready: false, problems: ["no image"] }),
    },
    webhook: aWebhookPorts(asked),
    ...change,
  };
  const views = createViews({ store: kept.store, now: clock.now });
  server = await openControlServer({
    stateDirectory: directory,
    views,
    ports,
    clock: systemClock,
    log: silentLog,
  });
}

async function call(path: string, method: "GET" | "POST" | "DELETE" = "GET", body?: object) {
  const given = body ? { body: JSON.stringify(body), headers: { "content-type": "application/json" } } : {};
  const answer = await request(`http://control${path}`, { method, dispatcher: agent, ...given });
  return { status: answer.statusCode, body: (await answer.body.json()) as Record<string, unknown> };
}

/** An active runner with an unfinished job. */
async function keepRunner(): Promise<void> {
  const { store } = kept;
  const size = { cpus: 2, memoryMib: 4096, diskMib: 1024 };
  await store.addRunner({ key: "r-abcd2345", pool, tags: ["firecracker-2cpu-4gb"], jobId: null, size });
  const token = new Secret("glrt-PLANTED");
  await store.activateRunner("r-abcd2345", { gitlabId: 81, token, tokenExpiresAt: null });
  await store.claim(aClaim({ pool }));
}

async function keepDelivery(key: string): Promise<void> {
  const about = { event: "Job Hook", projectId: 7, jobId: 4711, status: "pending" };
  await kept.store.keepDeliveries([{ key, ...about }]);
}

describe("runners", () => {
  test("are listed with their unfinished jobs and without their tokens", async () => {
    await keepRunner();
    await open();

    const { body } = await call("/v1/runners");

    expect(RunnerList.parse(body).runners).toMatchObject([
      { key: "r-abcd2345", gitlabId: 81, state: "active", unfinishedJobs: 1 },
    ]);
    expect(JSON.stringify(body)).not.toContain("PLANTED");
  });

  test("are made with the tags that are asked for, each once", async () => {
    await open();

    const { status } = await call("/v1/runners", "POST", { tags: ["b", " a ", "b"] });

    expect(status).toBe(200);
    expect(asked).toEqual(["create b,a"]);
  });

  test.each([{}, { tags: [] }, { tags: [" "] }, { tags: ["a"], more: 1 }, { tags: Array(51).fill("a") }])(
    "are not made for %j",
    async (body) => {
      await open();

      expect(await call("/v1/runners", "POST", body)).toMatchObject({ status: 400 });
      expect(asked).toEqual([]);
    },
  );

  test.each(["r-abcd2345", "81"])("are deleted by %s", async (name) => {
    await keepRunner();
    await open();

    const { body } = await call(`/v1/runners/${name}`, "DELETE");

    expect(asked).toEqual(["retire r-abcd2345"]);
    expect(body).toMatchObject({ runner: { key: "r-abcd2345", unfinishedJobs: 1 } });
  });

  test("that are not ours are not found", async () => {
    await open();

    expect(await call("/v1/runners/82", "DELETE")).toMatchObject({ status: 404 });
    expect(await call("/v1/runners/..%2F", "DELETE")).toMatchObject({ status: 400 });
    expect(asked).toEqual([]);
  });

  test("are pruned", async () => {
    await open();

    expect((await call("/v1/runners/prune", "POST")).body).toEqual({
      messages: ["runner r-abcd2345 is deleted"],
    });
  });
});

describe("webhooks", () => {
  test("are told of with what the store holds", async () => {
    await keepRunner();
    await keepDelivery("first");
    await open({ webhook: aWebhookPorts(asked, { waiting: () => [aWaitingJob()] }) });

    const status = WebhookStatus.parse((await call("/v1/webhook")).body);

    expect(status).toMatchObject({
      ...aWebhookStatus(),
      listeners: ["https://127.0.0.1:8443"],
      lastDelivery: { key: "first", jobId: 4711 },
      projects: { known: 1, due: 1 },
      runners: { creating: 0, active: 1, retiring: 0 },
    });
    expect(status.waiting).toHaveLength(1);
  });

  test("deliveries since a moment, newest first", async () => {
    await keepDelivery("old");
    await clock.advance(1_000);
    await keepDelivery("new");
    await open();

    const of = async (query: string) =>
      DeliveryList.parse((await call(`/v1/deliveries${query}`)).body).deliveries.map(({ key }) => key);

    expect(await of("")).toEqual(["new", "old"]);
    expect(await of(`?since=${clock.now()}`)).toEqual(["new"]);
    expect((await call("/v1/deliveries?limit=0")).status).toBe(400);
  });

  test.each([
    ["/v1/webhook", "GET"],
    ["/v1/deliveries", "GET"],
    ["/v1/runners/prune", "POST"],
    ["/v1/runners/81", "DELETE"],
  ] as const)("%s has no answer where the configuration has no webhook", async (path, method) => {
    await open({ webhook: undefined });

    expect(await call(path, method)).toMatchObject({
      status: 404,
      body: { hint: expect.stringContaining("docs/webhooks.md") },
    });
  });
});

describe("the status", () => {
  test("leaves out sets of tags that nobody asks for", async () => {
    await open({ webhook: aWebhookPorts(asked, { waiting: () => [aWaitingJob()] }) });

    const { pools, publicServer, webhook } = Status.parse((await call("/v1/status")).body);

    expect(pools.map(({ name, waiting }) => [name, waiting])).toEqual([
      ["small", 0],
      [pool, 1],
    ]);
    expect(publicServer).toEqual({ addresses: ["https://127.0.0.1:8443"], problems: ["no image"] });
    expect(webhook?.scope).toBe("group example/apps");
  });

  test("is complete without public server and webhook", async () => {
    await open({ webhook: undefined, publicServer: undefined });

    expect(Status.parse((await call("/v1/status")).body)).toMatchObject({
      publicServer: null,
      webhook: null,
    });
  });
});
