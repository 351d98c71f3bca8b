import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { aClaim } from "../../test/builders/job.ts";
import { aPayload } from "../../test/builders/payload.ts";
import { aSchedulerFixture, type SchedulerFixture } from "../../test/harness/scheduler.ts";
import type { RemoteJobStatus } from "../gitlab/runner-api.ts";
import type { Store } from "../store/store.ts";
import { SchedulerConfig } from "./config.ts";

let fixture: SchedulerFixture;
let clock: SchedulerFixture["clock"];
let store: SchedulerFixture["store"];
let host: SchedulerFixture["host"];
let gitlab: SchedulerFixture["gitlab"];
let relay: SchedulerFixture["relay"];
let start: SchedulerFixture["start"];
let aRunningJob: SchedulerFixture["aRunningJob"];
let kinds: SchedulerFixture["kinds"];

beforeEach(async () => {
  fixture = await aSchedulerFixture();
  ({ clock, store, host, gitlab, relay, start, aRunningJob, kinds } = fixture);
});

afterEach(async () => {
  await fixture[Symbol.asyncDispose]();
});

describe("a machine that dies while it runs a job", () => {
  test("is reported to GitLab within 2 s, with its last words but without secrets, and destroyed", async () => {
    start();
    const machineId = await aRunningJob();
    const { token } = aPayload();
    host.print(machineId, `\u001b[31mpanic\u001b[0m: token ${token} masked-secret-of-the-job\r\n`);

    host.end(machineId, "crash");
    await clock.advance(2_000);

    const trace = String(gitlab.trace);
    expect(await store.job(4711)).toMatchObject({
      state: "finished",
      result: "failed",
      reason: "the machine crashed",
    });
    expect(trace).toContain("the job failed: the machine crashed");
    expect(trace).toContain("  panic: token [MASKED] [MASKED]\n");
    expect(trace).toContain(machineId);
    expect(host.ids()).toEqual([]);
    expect(relay.listening.size).toBe(0);
    expect(JSON.stringify(await store.events({}))).not.toContain("masked-secret-of-the-job");
  });

  test("whose guest had no memory left is said to have had none, without what every boot prints", async () => {
    start();
    const machineId = await aRunningJob();
    host.print(machineId, "[    0.1] PCI: Fatal: No config space access function found\n");
    host.print(
      machineId,
      "Checking for jobs... received   job=4711 repo_url=http://10.0.2.100/a.git runner=frmt-aaaa\n",
    );
    host.print(machineId, "[   61.2] Out of memory: Killed process 164 (gitlab-runner) total-vm:1236000kB\n");
    host.print(machineId, "firerunner: the runner ended with status 137\n");

    host.end(machineId, "crash");
    await clock.advance(2_000);

    const trace = String(gitlab.trace);
    expect(await store.job(4711)).toMatchObject({
      cause: "memory",
      reason: expect.stringMatching(
        /^the machine crashed; it had no memory left: Out of memory: Killed process/,
      ),
    });
    expect(trace).toMatch(/Give the job a machine with more memory/);
    expect(trace).toContain("  firerunner: the runner ended with status 137\n");
    expect(trace).not.toMatch(/PCI: Fatal|Checking for jobs/);
  });

  test("is reported until GitLab takes it, and its trace is written once", async () => {
    start();
    const machineId = await aRunningJob();
    let refusals = 3;
    gitlab.answer = ({ state }) =>
      state === "failed" && refusals-- > 0
        ? { kind: "unavailable", waitMs: 0, problem: "GitLab answers 502" }
        : { kind: "accepted", status: state };

    host.end(machineId, "killed");
    await clock.advance(30_000);

    expect(await store.job(4711)).toMatchObject({ state: "finished", result: "failed" });
    expect((await kinds()).filter((kind) => kind === "job:report-failed")).toHaveLength(3);
    expect(String(gitlab.trace).match(/the job failed/g)).toHaveLength(1);
    expect(host.ids()).toEqual([]);
  });

  test("is reported behind bytes that GitLab has and this program did not note", async () => {
    start();
    const machineId = await aRunningJob();
    gitlab.trace = Buffer.from("the guest wrote this");

    host.end(machineId, "killed");
    await clock.advance(2_000);

    expect(String(gitlab.trace)).toMatch(/^the guest wrote this\n.*the job failed/);
  });

  test("is reported once more when GitLab asks for that", async () => {
    start();
    const machineId = await aRunningJob();
    const answers: RemoteJobStatus[] = [{ kind: "again", waitMs: 1_000 }];
    gitlab.answer = ({ state }) =>
      (state === "failed" && answers.pop()) || { kind: "accepted", status: state };

    host.end(machineId, "killed");
    await clock.advance(5_000);

    expect(gitlab.updates.filter(({ state }) => state === "failed")).toHaveLength(2);
    expect(await store.job(4711)).toMatchObject({ state: "finished", result: "failed" });
  });

  test("keeps the end that GitLab already has", async () => {
    start();
    const machineId = await aRunningJob();
    gitlab.answer = () => ({ kind: "over", status: "success" });

    host.end(machineId, "orderly");
    await clock.advance(2_000);

    expect(await store.job(4711)).toMatchObject({ state: "finished", result: "success" });
  });
});

describe("a script that failed", () => {
  test.each([
    ["failed", "script", "[   30.8] Out of memory: Killed process 99 (tail) total-vm:436600kB\n", [2]],
    ["failed", "script", "a line of its own\n", []],
    ["failed", "runner", "[   30.8] Out of memory: Killed process 99 (tail) total-vm:436600kB\n", []],
    ["success", undefined, "[   30.8] Out of memory: Killed process 99 (tail) total-vm:436600kB\n", []],
  ] as const)(
    "as %s for %s leaves with its machine what the console said of memory: %j",
    async (result, cause, line, noted) => {
      start();
      const machineId = await aRunningJob();
      host.print(machineId, `[    1.0] PCI: Fatal: No config space access function found\n${line}${line}`);
      await store.finishJob(4711, result, cause && { cause });
      await clock.advance(5_000);

      expect((await store.machine(machineId))?.state).toBe("gone");
      const events = await store.events({ jobId: 4711 });
      const killed = events.flatMap((event) =>
        event.kind === "machine:out-of-memory" ? [event.detail.killed] : [],
      );
      expect(killed).toEqual(noted);
    },
  );
});

describe("a job that outlives its time limit", () => {
  test("is reported as such, with advice about time and none about memory, when its runner did not end it", async () => {
    start();
    await store.claim(aClaim({ timeoutMs: 60_000 }));
    await clock.advance(100);
    const machineId = (await store.job(4711))?.machineId ?? "";
    await store.handOver(4711, machineId);
    relay.lastStatusAt = () => clock.now();

    await clock.advance(60_000 + SchedulerConfig.parse({}).timeoutGrace - 2_000);
    expect((await store.job(4711))?.state).toBe("running");
    await clock.advance(5_000);

    expect(gitlab.updates).toMatchObject([{ state: "failed", failureReason: "job_execution_timeout" }]);
    expect(await store.job(4711)).toMatchObject({ state: "finished", result: "failed", cause: "time-limit" });
    expect(String(gitlab.trace)).toMatch(
      /the job failed: the job's time limit of 1m0s is over[\s\S]*more time/,
    );
    expect(String(gitlab.trace)).not.toMatch(/memory/);
    expect(host.ids()).toEqual([]);
  });
});

describe("questions whether a running job is still wanted", () => {
  test("are never asked while its runner speaks", async () => {
    let spokenAt = 0;
    relay.lastStatusAt = () => spokenAt;
    start();
    await aRunningJob();

    for (let time = 0; time < 120_000; time += 3_000) {
      spokenAt = clock.now();
      await clock.advance(3_000);
    }

    expect(gitlab.updates).toEqual([]);
  });

  test("are asked once in ten seconds of its silence", async () => {
    start();
    await aRunningJob();

    await clock.advance(120_000);

    expect(gitlab.updates.every(({ state }) => state === "running")).toBe(true);
    expect(gitlab.updates.length).toBeLessThanOrEqual(12);
    expect(gitlab.updates.length).toBeGreaterThanOrEqual(10);
  });
});

describe("a clock that is set", () => {
  test.each([600_000, -600_000])(
    "by %i ms makes no running job late: its limits count anew",
    async (stepMs) => {
      let offsetMs = 0;
      const set = { ...clock, now: () => clock.now() + offsetMs };
      start({ clock: set });
      await aRunningJob();
      const spokenAt = set.now();
      relay.lastHeardAt = () => spokenAt;
      await clock.advance(10_000);

      offsetMs = stepMs;
      await clock.advance(240_000);
      expect(await store.job(4711)).toMatchObject({ state: "running" });

      await clock.advance(90_000);
      // The store's own clock was not set here, so that the report may wait.
      expect(await store.job(4711)).toMatchObject({ reason: expect.stringContaining("no sign of life") });
    },
  );
});

test("a job whose payload is lost is not tried for ever, and its end says so", async () => {
  const lost = Object.assign(Object.create(store) as Store, { payload: async () => undefined });
  start({ store: lost });
  const machineId = await aRunningJob();

  host.end(machineId, "crash");
  await clock.advance(2_000);

  expect(await store.job(4711)).toMatchObject({
    state: "finished",
    result: "unknown",
    reason: expect.stringContaining("the machine crashed; GitLab could not be told"),
  });
});
