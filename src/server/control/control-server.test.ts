import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Agent, request } from "undici";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { aControlPorts } from "../../../test/builders/control-ports.ts";
import { aHostPorts } from "../../../test/builders/host-ports.ts";
import { aClaim } from "../../../test/builders/job.ts";
import { aNewMachine } from "../../../test/builders/machine.ts";
import { aStore, type TestStore } from "../../../test/builders/store.ts";
import { systemClock } from "../../base/clock.ts";
import { FireRunnerError } from "../../base/errors.ts";
import { silentLog } from "../../base/log.ts";
import { createManualClock } from "../../base/manual-clock.ts";
import { type DaemonStatus, JobReport, Status } from "../../views/api.ts";
import { createViews } from "../../views/views.ts";
import type { ControlPorts } from "../routes/ports.ts";
import { type ControlServer, openControlServer } from "./control-server.ts";

const clock = createManualClock();
const machineId = "fr-aaaaaaaa";
const daemonStatus: DaemonStatus = {
  version: "1.2.3",
  pid: 42,
  startedAt: 1,
  mode: "run",
  configFile: null,
  stateDirectory: "/state",
  gitlabUrl: "https://gitlab.example.com",
  gitlabProblem: null,
  pools: [
    {
      name: "small",
      origin: "configured",
      ok: false,
      problems: [{ problem: "no image", hint: "build one" }],
      accelerator: null,
      driver: "qemu",
      image: "base",
      size: { cpus: 1, memoryMib: 512, diskMib: 1024 },
      limit: 4,
      room: { machines: 4, byDisk: 4, note: null },
      claiming: "polling",
    },
  ],
  hosts: [],
  fetching: [],
  troubles: [],
  caches: [],
};

let directory: string;
let kept: TestStore;
let server: ControlServer | undefined;
let agent: Agent;
let calls: string[];
let waits: readonly string[];

const ports: ControlPorts = {
  ...aControlPorts(),
  status: () => daemonStatus,
  hosts: aHostPorts(),
  console: async (_id, bytes) => "the end".slice(-bytes),
  async *followConsole(_id, signal) {
    yield " and more";
    await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
    calls.push("unfollowed");
  },
  drain: () => void calls.push("drain"),
  resume: () => void calls.push("resume"),
  reload: async () => {
    calls.push("reload");
    throw new FireRunnerError("config_invalid", "no good", { hint: "mend it" });
  },
};

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "fr-http-"));
  kept = await aStore({ clock });
  agent = new Agent({ connect: { socketPath: join(directory, "control.sock") } });
  calls = [];
  waits = [];
});

afterEach(async () => {
  await agent.destroy();
  await server?.close();
  server = undefined;
  await kept[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

async function open(): Promise<ControlServer> {
  const views = createViews({ store: kept.store, now: clock.now, explain: () => waits });
  server = await openControlServer({
    stateDirectory: directory,
    views,
    ports,
    clock: systemClock,
    log: silentLog,
  });
  return server;
}

async function call(
  path: string,
  method: "GET" | "POST" = "GET",
): Promise<{ status: number; body: unknown }> {
  const { statusCode, body } = await request(`http://control${path}`, { method, dispatcher: agent });
  return { status: statusCode, body: await body.json() };
}

async function runningJob(): Promise<void> {
  await kept.store.claim(aClaim());
  await kept.store.startJob(4711, aNewMachine({ id: machineId }));
  await kept.store.markBooting(machineId);
  await kept.store.markHeard(machineId);
  await kept.store.markReady(machineId);
  await kept.store.handOver(4711, machineId);
}

describe("the control socket", () => {
  test("belongs to its user alone, and is gone when it closes", async () => {
    const { socketPath, close } = await open();

    expect((await stat(socketPath)).mode & 0o777).toBe(0o600);
    await close();
    await expect(stat(socketPath)).rejects.toThrow("ENOENT");
  });

  test("replaces what a dead process left", async () => {
    await writeFile(join(directory, "control.sock"), "");
    await writeFile(join(directory, "control.sock.new"), "");

    await open();

    expect((await call("/v1/status")).status).toBe(200);
  });

  test("refuses to take the place of a live one", async () => {
    await open();

    await expect(open()).rejects.toMatchObject({
      code: "control_taken",
      hint: expect.stringContaining("Stop it"),
    });
    expect((await call("/v1/status")).status).toBe(200);
  });

  test("another program's server counts as live too", async () => {
    const other = createServer().listen(join(directory, "control.sock"));
    try {
      await expect(open()).rejects.toMatchObject({ code: "control_taken" });
    } finally {
      await new Promise((resolve) => other.close(resolve));
    }
  });

  test("says so when the directory is too deep or not there", async () => {
    const views = createViews({ store: kept.store, now: clock.now });
    const deps = { views, ports, clock, log: silentLog };

    const deep = openControlServer({ ...deps, stateDirectory: `/tmp/${"d".repeat(100)}` });
    await expect(deep).rejects.toMatchObject({
      code: "control_socket",
      hint: expect.stringContaining("shorter"),
    });
    const absent = openControlServer({ ...deps, stateDirectory: join(directory, "absent") });
    await expect(absent).rejects.toMatchObject({ code: "control_socket" });
  });
});

describe("looking", () => {
  test("status joins the daemon's word with the store's", async () => {
    await runningJob();
    await kept.store.claim(aClaim({ jobId: 5000 }));
    await open();

    const status = Status.parse((await call("/v1/status")).body);

    expect(status).toMatchObject({ version: "1.2.3", liveMachines: 1, recent: [] });
    expect(status.pools[0]).toMatchObject({ running: 1, starting: 0, queued: 1, waiting: 1 });
    expect(status.pools[0]?.problems).toMatchObject([{ hint: "build one" }]);
    expect(status.unfinished.map(({ id }) => id)).toEqual([5000, 4711]);
  });

  test("a job comes with its story in words and never with its trace head or payload", async () => {
    await runningJob();
    await kept.store.addTraceHead(4711, "hidden");
    waits = ["its host is full"];
    await open();

    const { body } = await call("/v1/jobs/4711");
    const report = JobReport.parse(body);

    expect(report.explanation).toMatchObject({
      cause: "its host is full",
      summary: expect.stringContaining("runs"),
    });
    expect(report.events.map(({ text }) => text).join("\n")).toContain(
      `${machineId} spoke for the first time`,
    );
    expect(Object.keys((body as { job: object }).job)).not.toContain("traceHead");
  });

  test("jobs and machines can be cut to the live ones", async () => {
    await runningJob();
    await kept.store.finishJob(4711, "success");
    await open();

    expect((await call("/v1/jobs?live=1")).body).toEqual({ jobs: [] });
    expect((await call("/v1/jobs")).body).toMatchObject({ jobs: [{ id: 4711, result: "success" }] });
    expect((await call("/v1/machines?live=1&limit=1")).body).toMatchObject({ machines: [{ id: machineId }] });
  });

  test.each([
    ["/v1/jobs/99", 404, "not_found"],
    ["/v1/jobs/none", 400, "bad_request"],
    ["/v1/jobs?limit=0", 400, "bad_request"],
    ["/v1/machines/fr-bbbbbbbb/console", 404, "not_found"],
    ["/v1/machines/..%2f..%2fetc/console", 400, "bad_request"],
    ["/v2", 404, "not_found"],
  ])("%s is refused with %i", async (path, status, code) => {
    await open();

    expect(await call(path)).toMatchObject({ status, body: { code, message: expect.any(String) } });
  });

  test("a console is given from its end, and followed until the reader leaves", async () => {
    await runningJob();
    await open();
    const path = `/v1/machines/${machineId}/console`;

    const whole = await request(`http://control${path}?bytes=3`, { dispatcher: agent });
    expect(await whole.body.text()).toBe("end");

    const leaving = new AbortController();
    const { body } = await request(`http://control${path}?follow=1`, {
      dispatcher: agent,
      signal: leaving.signal,
    });
    let seen = "";
    for await (const part of body.setEncoding("utf8")) {
      seen += part;
      if (seen.includes("more")) break;
    }
    leaving.abort();
    expect(seen).toBe("the end and more");
    await expect.poll(() => calls).toEqual(["unfollowed"]);
  });

  test("a machine on another host has no console, and says where it is", async () => {
    await kept.store.claim(aClaim());
    await kept.store.startJob(4711, aNewMachine({ id: machineId, driver: "flintlock", host: "metal-1" }));
    await open();

    for (const query of ["", "?follow=1"])
      expect(await call(`/v1/machines/${machineId}/console${query}`)).toMatchObject({
        status: 404,
        body: {
          message: expect.stringContaining("metal-1"),
          hint: expect.stringContaining("firecracker.stdout"),
        },
      });
  });

  test("closing cuts consoles that are followed", async () => {
    await runningJob();
    const { close } = await open();
    const { body } = await request(`http://control/v1/machines/${machineId}/console?follow=1`, {
      dispatcher: agent,
    });
    const ended = body.text().then(
      () => "ended",
      () => "cut",
    );

    await close();

    expect(["ended", "cut"]).toContain(await ended);
    expect(calls).toEqual(["unfollowed"]);
  });
});

describe("steering", () => {
  test("drain and resume are passed on", async () => {
    await open();

    await call("/v1/drain", "POST");
    expect(await call("/v1/resume", "POST")).toMatchObject({
      status: 200,
      body: { messages: [expect.any(String)] },
    });
    expect(calls).toEqual(["drain", "resume"]);
  });

  test("a failure keeps its code and hint", async () => {
    await open();

    expect(await call("/v1/reload", "POST")).toEqual({
      status: 409,
      body: { code: "config_invalid", message: "no good", hint: "mend it" },
    });
  });
});
