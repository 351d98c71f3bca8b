import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { anImage } from "../../test/builders/image.ts";
import { aClaim } from "../../test/builders/job.ts";
import { noJobImages } from "../../test/builders/job-images.ts";
import { aPayload } from "../../test/builders/payload.ts";
import { aPool } from "../../test/builders/pool.ts";
import { aStore, type TestStore } from "../../test/builders/store.ts";
import { silentLog } from "../base/log.ts";
import { createManualClock, type ManualClock } from "../base/manual-clock.ts";
import { Secret } from "../base/secret.ts";
import type { JobUpdate, RemoteJobStatus, RunnerApi } from "../gitlab/runner-api.ts";
import type { Store } from "../store/store.ts";
import type { VmDriver } from "../vm/driver.ts";
import { VmError } from "../vm/errors.ts";
import { createFakeDriver, createFakeFleetDriver } from "../vm/fake/driver.ts";
import { createFakeHost, type FakeHost } from "../vm/fake/host.ts";
import { createFleet } from "../vm/fleet.ts";
import { SchedulerConfig, ShutdownConfig } from "./config.ts";
import type { GuestEndpoint } from "./ports.ts";
import { createScheduler, type Scheduler, type SchedulerDeps } from "./scheduler.ts";

let clock: ManualClock;
let testStore: TestStore;
let store: Store;
let host: FakeHost;
let driver: VmDriver;
let gitlab: TestGitLab;
let relay: ReturnType<typeof aRelay>;
let schedulers: Scheduler[];

interface TestGitLab {
  readonly updates: JobUpdate[];
  trace: Buffer;
  answer: (update: JobUpdate) => RemoteJobStatus;
  readonly api: RunnerApi;
}

/** GitLab's answers are set by the test; what it was sent is kept. */
function aGitLab(): TestGitLab {
  const updates: JobUpdate[] = [];
  const gitlab: TestGitLab = {
    updates,
    trace: Buffer.alloc(0),
    answer: (update) => ({ kind: "accepted", status: update.state }),
    api: {
      verify: async () => ({ id: 1, tokenExpiresAt: null }),
      resetToken: async (token) => ({ token, tokenExpiresAt: null }),
      requestJob: async () => ({ kind: "none" }) as const,
      updateJob: async (update) => {
        updates.push(update);
        return gitlab.answer(update);
      },
      appendTrace: async ({ startBytes, bytes }) => {
        const endBytes = startBytes + bytes.length;
        if (startBytes !== gitlab.trace.length && endBytes !== gitlab.trace.length)
          return { kind: "elsewhere", sizeBytes: gitlab.trace.length };
        if (endBytes !== gitlab.trace.length) gitlab.trace = Buffer.concat([gitlab.trace, bytes]);
        return { kind: "accepted", sizeBytes: endBytes, status: "running", intervalMs: undefined };
      },
    },
  };
  return gitlab;
}

const aRelayLink = {
  address: "relay.example.org:8444",
  serverName: "relay.example.org",
  ca: "",
  secret: new Secret("the-machines-own"),
};

function aRelay() {
  const open = new Map<string, string>();
  const hurried: string[] = [];
  return {
    hurried,
    tellCanceling: (id: string) => void hurried.push(id),
    open: async (id: string, path: string | undefined) => void open.set(id, path ?? "network"),
    link: async () => await Promise.reject(new Error("no machine of these tests is elsewhere")),
    endOf: () => undefined,
    close: async (id: string) => void open.delete(id),
    lastHeardAt: () => clock.now(),
    lastStatusAt: (): number | undefined => undefined,
    listening: open,
  } satisfies GuestEndpoint & { listening: unknown; hurried: unknown };
}

function start(overrides: Partial<SchedulerDeps> = {}): Scheduler {
  const scheduler = createScheduler({
    ...{ store, clock, relay },
    api: gitlab.api,
    log: silentLog,
    random: () => 0.5,
    fleet: createFleet([driver]),
    placement: "spread",
    images: { resolve: async () => anImage },
    jobImages: noJobImages,
    pools: () => new Map([["small", aPool()]]),
    config: SchedulerConfig.parse({}),
    shutdown: ShutdownConfig.parse({ drainLimit: "2s" }),
    disk: { freeBytes: async () => 2 ** 40, minFreeBytes: 2 ** 30 },
    ...overrides,
  });
  scheduler.start();
  schedulers.push(scheduler);
  return scheduler;
}

/** A job whose guest has been given the payload. */
async function aRunningJob(jobId = 4711): Promise<string> {
  await store.claim(aClaim({ jobId }));
  await clock.advance(100);
  const machineId = (await store.job(jobId))?.machineId ?? "";
  await store.handOver(jobId, machineId);
  return machineId;
}

async function kinds(jobId = 4711): Promise<string[]> {
  return (await store.events({ jobId })).map(({ kind }) => kind);
}

beforeEach(async () => {
  clock = createManualClock();
  testStore = await aStore({ clock });
  store = testStore.store;
  host = createFakeHost(clock);
  driver = createFakeDriver({ host });
  gitlab = aGitLab();
  relay = aRelay();
  schedulers = [];
});

afterEach(async () => {
  for (const scheduler of schedulers) {
    const stopped = scheduler.stop();
    await clock.advance(60_000);
    await stopped;
  }
  await driver.close();
  await testStore[Symbol.asyncDispose]();
});

describe("a claimed job", () => {
  test("has its machine at once, with the relay listening before it starts", async () => {
    let listened: boolean | undefined;
    host.onCreate = ({ spec }) => {
      listened = relay.listening.has(spec.id);
    };
    start();

    await store.claim(aClaim());
    await clock.advance(50);

    const job = await store.job(4711);
    expect(job?.state).toBe("starting");
    expect((await store.machine(job?.machineId ?? ""))?.state).toBe("booting");
    expect(listened).toBe(true);
  });

  test("gets another machine when one cannot be started, and its trace says so", async () => {
    let creates = 0;
    host.faults.create = () => (++creates < 3 ? { dieAfterMs: 50, exit: "crash" } : {});
    start();

    await store.claim(aClaim());
    await clock.advance(10_000);

    const job = await store.job(4711);
    expect(job?.attempt).toBe(3);
    expect(job?.traceHead).toContain("the machine crashed");
    expect(job?.traceHead).toContain("attempt 2 of 3");
    expect(job?.traceHead).toContain("attempt 3 of 3");
    expect(host.ids()).toEqual([job?.machineId]);
  });

  test("loses nothing to a host that makes no machine, which gets nothing meanwhile and says why", async () => {
    let creates = 0;
    let isFull = true;
    host.faults.create = () => {
      creates++;
      return isFull
        ? { fail: new VmError("vm_disk_full", "no room for the disk", { hint: "free some" }) }
        : {};
    };
    const scheduler = start();

    await store.claim(aClaim());
    await store.claim(aClaim({ jobId: 4712 }));
    await clock.advance(2_000);
    const [soon, status] = [creates, scheduler.status()];
    await clock.advance(90_000);
    const later = creates;
    const job = await store.job(4711);
    isFull = false;
    await clock.advance(120_000);

    // Both were on their way when the first was refused; from then on one at a time, ever less often.
    expect(soon).toBeLessThanOrEqual(2);
    expect(later).toBeLessThan(10);
    expect(status.hosts[0]).toMatchObject({
      problem: expect.stringContaining("did not make the last machine: no room for the disk"),
      hint: "free some",
    });
    expect(status.pools[0]?.ok).toBe(false);
    expect(status.blocker(4711) ?? status.blocker(4712)).toContain("no room for the disk");
    expect(scheduler.status().hosts[0]?.problem).toBeUndefined();
    expect(job).toMatchObject({ state: "claimed", attempt: 0 });
    expect(job?.traceHead.split("no room for the disk")).toHaveLength(2);
    expect(await store.job(4711)).toMatchObject({ state: "starting", attempt: 1 });
    expect(await store.job(4712)).toMatchObject({ state: "starting", attempt: 1 });
  });

  test("waits for a host's pool no longer than a second after the host is back", async () => {
    let isAway = true;
    const away = () => new VmError("vm_host_unreachable", "nobody listens there");
    const flaky: VmDriver = {
      ...driver,
      probe: async (image, signal) =>
        isAway ? { usable: false, problem: away().message, hint: "" } : await driver.probe(image, signal),
      list: async (signal) => (isAway ? await Promise.reject(away()) : await driver.list(signal)),
      trouble: () => (isAway ? { problem: away().message, hint: undefined } : undefined),
    };
    const told: boolean[] = [];
    const scheduler = start({ fleet: createFleet([flaky]) });
    scheduler.onHealthChange(() => void told.push(scheduler.status().pools[0]?.ok ?? false));
    await clock.advance(3_000);
    const before = scheduler.canClaim(aPool()).ok;

    isAway = false;
    await clock.advance(1_200);

    expect(before).toBe(false);
    expect(scheduler.canClaim(aPool()).ok).toBe(true);
    // Whoever claims was told.
    expect(told.at(-1)).toBe(true);
  });

  test("goes from a host that makes no machine to one that does, within seconds and as its first attempt", async () => {
    const sick = createFakeHost(clock);
    sick.faults.create = () => ({ fail: new VmError("vm_host_refused", "its answer is an error") });
    const hosts = { "metal-1": sick, "metal-2": host };
    const onNetwork = { ...relay, link: async () => aRelayLink };
    const drivers = Object.entries(hosts).map(([name, each]) => createFakeFleetDriver({ name, host: each }));
    start({ fleet: createFleet(drivers), relay: onNetwork });

    for (const jobId of [1, 2, 3]) await store.claim(aClaim({ jobId }));
    await clock.advance(2_000);

    expect(host.ids()).toHaveLength(3);
    for (const jobId of [1, 2, 3])
      expect(await store.job(jobId)).toMatchObject({ state: "starting", attempt: 1 });
    for (const each of drivers) await each.close();
  });

  test("fails with the reason when nothing of its kind can be made, however often it is asked for", async () => {
    host.faults.create = () => ({ fail: new VmError("vm_bad_spec", "it takes no odd number of CPUs") });
    start();

    await store.claim(aClaim());
    await clock.advance(5_000);

    expect(await store.job(4711)).toMatchObject({ state: "finished", result: "failed" });
    expect(String(gitlab.trace)).toContain("it takes no odd number of CPUs");
  });

  test("fails after the last attempt, with the reason in GitLab's trace", async () => {
    host.faults.create = () => ({ dieAfterMs: 50, exit: "crash" });
    start();

    await store.claim(aClaim());
    await clock.advance(20_000);

    expect(await store.job(4711)).toMatchObject({ state: "finished", result: "failed", attempt: 3 });
    expect(gitlab.updates.at(-1)).toMatchObject({ state: "failed", failureReason: "runner_system_failure" });
    expect(String(gitlab.trace)).toMatch(
      /attempt 2 of 3[\s\S]*the job failed: no machine took it in 3 attempts/,
    );
    expect(host.ids()).toEqual([]);
  });

  test("is not held up by the machine of another, which hangs", async () => {
    host.faults.create = () => (host.ids().length === 1 ? { hang: true } : {});
    start();
    await store.claim(aClaim({ jobId: 1 }));
    await clock.advance(100);
    await store.claim(aClaim({ jobId: 2 }));
    await clock.advance(100);
    await store.claim(aClaim({ jobId: 3 }));
    await clock.advance(100);

    const states = await Promise.all(
      [1, 2, 3].map(async (id) => (await store.machine((await store.job(id))?.machineId ?? ""))?.state),
    );

    expect(states).toEqual(["booting", "creating", "booting"]);
  });
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

describe("a cancel", () => {
  test("is noticed though the guest is silent, and its machine is gone within 12 s", async () => {
    start();
    await aRunningJob();

    gitlab.answer = () => ({ kind: "over", status: "canceled" });
    await clock.advance(12_000);

    expect(await store.job(4711)).toMatchObject({
      state: "finished",
      result: "canceled",
      reason: "canceled in GitLab",
    });
    expect(host.ids()).toEqual([]);
    expect(gitlab.updates.length).toBeLessThan(5);
  });

  test("that a webhook tells of frees the machine at once, though GitLab has just said that it runs", async () => {
    const scheduler = start();
    await aRunningJob();
    await clock.advance(2_500);
    const asked = gitlab.updates.length;

    gitlab.answer = () => ({ kind: "over", status: "canceled" });
    scheduler.recheck(4711);
    await clock.advance(100);

    expect(gitlab.updates).toHaveLength(asked + 1);
    expect(await store.job(4711)).toMatchObject({ state: "finished", result: "canceled" });
    expect(host.ids()).toEqual([]);
  });

  test("that was told of by mistake does no harm, and asks GitLab but once a second", async () => {
    const scheduler = start();
    const machineId = await aRunningJob();
    await clock.advance(2_500);
    const asked = gitlab.updates.length;

    for (let time = 0; time < 1_000; time += 10) {
      scheduler.recheck(4711);
      scheduler.recheck(9999);
      await clock.advance(10);
    }

    expect(
      gitlab.updates.slice(asked).every(({ jobId, state }) => jobId === 4711 && state === "running"),
    ).toBe(true);
    expect(gitlab.updates.length - asked).toBeLessThanOrEqual(3);
    expect((await store.job(4711))?.state).toBe("running");
    expect(host.ids()).toEqual([machineId]);
  });

  test("that is told of while GitLab is being asked is asked about once more", async () => {
    const scheduler = start();
    await aRunningJob();
    const answers: Array<() => void> = [];
    const { api } = gitlab;
    const updateJob = api.updateJob;
    Object.assign(api, {
      updateJob: async (update: JobUpdate) => {
        const answer = await updateJob(update);
        await new Promise<void>((resolve) => answers.push(resolve));
        return answer;
      },
    });
    await clock.advance(10_500);
    expect(answers).toHaveLength(1);

    gitlab.answer = () => ({ kind: "over", status: "canceled" });
    scheduler.recheck(4711);
    await clock.advance(10);
    answers.shift()?.();
    await clock.advance(100);
    expect((await store.job(4711))?.state).toBe("running");
    answers.shift()?.();
    await clock.advance(100);

    expect(await store.job(4711)).toMatchObject({ state: "finished", result: "canceled" });
  });

  test("that waits for an after_script ends a job at once that has not begun", async () => {
    host.faults.create = () => ({ hang: true });
    start();
    await store.claim(aClaim());

    gitlab.answer = ({ state }) => ({
      kind: "accepted",
      status: state === "failed" ? "canceled" : "canceling",
    });
    await clock.advance(11_000);

    expect(await store.job(4711)).toMatchObject({ state: "finished", result: "canceled" });
    expect(host.ids()).toEqual([]);
  });

  test("is left to the guest when it runs its after_script, and the guest is hurried", async () => {
    start();
    const machineId = await aRunningJob();

    gitlab.answer = () => ({ kind: "accepted", status: "canceling" });
    await clock.advance(12_000);

    expect((await store.job(4711))?.state).toBe("running");
    expect(gitlab.updates.every(({ state }) => state === "running")).toBe(true);
    expect(new Set(relay.hurried)).toEqual(new Set([machineId]));
  });
});

describe("a restart", () => {
  test("adopts running machines once, and destroys those that nobody knows", async () => {
    const first = start();
    const machineId = await aRunningJob();
    const stopped = first.stop();
    await clock.advance(100);
    await stopped;
    relay.listening.clear();
    host.start({ id: "fr-strange2", size: aPool().size, image: anImage });

    start();
    await clock.advance(3_000);

    expect((await kinds()).filter((kind) => kind === "machine:adopted")).toHaveLength(1);
    expect([...relay.listening.keys()]).toEqual([machineId]);
    expect(host.ids()).toEqual([machineId]);
    expect((await store.job(4711))?.state).toBe("running");
  });

  test("finds a machine that died meanwhile", async () => {
    const first = start();
    const machineId = await aRunningJob();
    const stopped = first.stop();
    await clock.advance(100);
    await stopped;
    host.end(machineId, "killed");

    start();
    await clock.advance(2_000);

    expect(await store.job(4711)).toMatchObject({ state: "finished", result: "failed" });
  });

  test("goes on with a machine whose creation was interrupted", async () => {
    host.faults.create = () => ({ hang: true });
    const first = start();
    await store.claim(aClaim());
    await clock.advance(100);
    const stopped = first.stop();
    await clock.advance(20_000);
    await stopped;
    host.faults.create = () => ({});

    start();
    await clock.advance(1_000);

    const job = await store.job(4711);
    expect(job?.attempt).toBe(1);
    expect((await store.machine(job?.machineId ?? ""))?.state).toBe("booting");
  });
});

describe("a machine that will not go away", () => {
  test("is tried again, later each time, while other machines come and go", async () => {
    host.faults.destroy = (id) =>
      id === stubborn ? new VmError("vm_destroy_failed", "the disk is busy", { retryable: true }) : undefined;
    const scheduler = start();
    const stubborn = await aRunningJob(1);
    await store.finishJob(1, "success");
    await aRunningJob(2);
    await store.finishJob(2, "success");
    await clock.advance(10_000);

    expect(host.ids()).toEqual([stubborn]);
    expect(scheduler.status().work).toMatchObject([
      { key: `machine:${stubborn}`, cooldown: { error: "the disk is busy" } },
    ]);
    const failures = (await kinds(1)).filter((kind) => kind === "machine:destroy-failed").length;
    expect(failures).toBeGreaterThan(2);
    expect(failures).toBeLessThan(8);

    host.faults.destroy = () => undefined;
    await clock.advance(60_000);
    expect(host.ids()).toEqual([]);
  });

  test("has all the time it needs, however many rounds go by meanwhile", async () => {
    const destroy: VmDriver["destroy"] = async (id, signal) => {
      await clock.sleep(5_000, signal);
      await driver.destroy(id, signal);
    };
    start({ fleet: createFleet([{ ...driver, destroy }]) });
    await aRunningJob();

    await store.finishJob(4711, "success");
    await clock.advance(6_000);

    expect(host.ids()).toEqual([]);
    expect(await kinds()).not.toContain("machine:destroy-failed");
  });

  test("whose guest took the job is left in peace, though its host never answered the create", async () => {
    host.faults.create = () => ({ isUnanswered: true });
    start();
    await store.claim(aClaim());
    await clock.advance(100);
    const id = (await store.job(4711))?.machineId ?? "";
    await store.markBooting(id);
    await store.markReady(id);
    await store.handOver(4711, id);
    await clock.advance(120_000);

    expect(await store.job(4711)).toMatchObject({ state: "running", machineId: id });
    expect(host.status(id)).toMatchObject({ running: true });
  });

  test("is given up for now when its destruction hangs, and what is created for nobody is not waited for", async () => {
    host.faults.create = () => ({ hang: true });
    start();
    await store.claim(aClaim());
    await clock.advance(100);

    await store.finishJob(4711, "canceled");
    await clock.advance(1_000);

    expect(host.ids()).toEqual([]);
    expect(await store.machines({ live: true })).toEqual([]);
  });
});

describe("claiming", () => {
  test("is allowed once the pool was looked at, and not while draining", async () => {
    const scheduler = start();
    expect(scheduler.canClaim(aPool())).toEqual({ ok: false, problem: "it has not been looked at yet" });
    await clock.advance(100);

    expect(scheduler.canClaim(aPool())).toEqual({ ok: true });
    expect(scheduler.runnerInfo(aPool())).toEqual(anImage.runnerInfo);
    scheduler.drain();
    expect(scheduler.canClaim(aPool()).ok).toBe(false);
    scheduler.resume();
    expect(scheduler.canClaim(aPool()).ok).toBe(true);
  });

  test("is refused for what is wrong with the image, the driver or the disk, and allowed again afterwards", async () => {
    let freeBytes = 10;
    const scheduler = start({ disk: { freeBytes: async () => freeBytes, minFreeBytes: 2 ** 30 } });
    await clock.advance(100);
    expect(scheduler.canClaim(aPool())).toMatchObject({ problem: expect.stringContaining("10 B are free") });

    freeBytes = 2 ** 40;
    await clock.advance(20_000);
    expect(scheduler.canClaim(aPool())).toEqual({ ok: true });
    expect(scheduler.canClaim(aPool({ name: "other" }))).toMatchObject({ problem: "it is not configured" });
  });

  test("is refused while the image is missing or the driver unusable", async () => {
    const missing = start({
      images: { resolve: async () => Promise.reject(new Error("there is no image base")) },
    });
    const unusable = start({
      fleet: createFleet([
        { ...driver, probe: async () => ({ usable: false, problem: "no QEMU", hint: "install it" }) },
      ]),
    });
    await clock.advance(100);

    expect(missing.canClaim(aPool())).toEqual({ ok: false, problem: "there is no image base" });
    expect(unusable.canClaim(aPool())).toEqual({ ok: false, problem: "no QEMU" });
  });
});

test("jobs start within a second on the host that answers while another one hangs", async () => {
  const hung = (): Promise<never> => new Promise(() => {});
  const hanging: VmDriver = { ...driver, host: "hung", list: hung, probe: hung, create: hung };
  const scheduler = start({ fleet: createFleet([hanging, driver]) });
  await clock.advance(5_000);
  expect(scheduler.canClaim(aPool())).toEqual({ ok: true });

  for (let jobId = 1; jobId <= 3; jobId++) {
    await store.claim(aClaim({ jobId }));
    await clock.advance(300);
    const { machineId = null } = (await store.job(jobId)) ?? {};
    expect(await store.machine(machineId ?? "")).toMatchObject({ host: "local", state: "booting" });
  }
});

describe("an orderly end", () => {
  test("leaves running jobs for the next start", async () => {
    const scheduler = start();
    const machineId = await aRunningJob();

    const ended = scheduler.shutDown(new AbortController().signal);
    await clock.advance(3_000);
    await ended;

    expect((await store.job(4711))?.state).toBe("running");
    expect(host.ids()).toEqual([machineId]);
  });

  test("does not wait when nothing runs, nor when it is told to hurry", async () => {
    const idle = start();
    await clock.advance(100);
    const idleEnd = idle.shutDown(new AbortController().signal);
    await clock.advance(100);
    await idleEnd;
    const busy = start();
    await aRunningJob();
    const hurry = new AbortController();
    const busyEnd = busy.shutDown(hurry.signal);
    hurry.abort();
    await clock.advance(50);
    await busyEnd;

    expect(host.ids()).toHaveLength(1);
  });

  test("ends running jobs honestly where that is configured", async () => {
    const scheduler = start({ shutdown: ShutdownConfig.parse({ drainLimit: "2s", onLimit: "end" }) });
    await aRunningJob();

    const ended = scheduler.shutDown(new AbortController().signal);
    await clock.advance(5_000);
    await ended;

    expect(await store.job(4711)).toMatchObject({ state: "finished", result: "failed" });
    expect(String(gitlab.trace)).toContain("FireRunner was told to end");
    expect(host.ids()).toEqual([]);
  });
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

test("the status tells of the last round, the hosts and the pools", async () => {
  const scheduler = start();
  await aRunningJob();
  await clock.advance(2_000);

  const status = scheduler.status();

  expect(status).toMatchObject({ mode: "run", unfinishedJobs: 1, liveMachines: 1, work: [] });
  expect(status.hosts).toMatchObject([
    { driver: "fake", host: "local", taken: { machines: 1 }, problem: undefined },
  ]);
  expect(status.lastRound?.error).toBeUndefined();
  expect(status.pools[0]).toMatchObject({ pool: "small", ok: true, accelerator: "none" });
});

test("a round that fails says so and is followed by others", async () => {
  let isBroken = true;
  const jobs: Store["jobs"] = async (filter) => {
    if (isBroken) throw new Error("the database is locked");
    return await store.jobs(filter);
  };
  const scheduler = start({ store: Object.assign(Object.create(store) as Store, { jobs }) });
  await clock.advance(100);
  expect(scheduler.status().lastRound?.error).toBe("the database is locked");

  isBroken = false;
  await store.claim(aClaim());
  await clock.advance(100);
  expect((await store.job(4711))?.state).toBe("starting");
});

test("a driver that cannot list is named in the status, and nothing is concluded from it", async () => {
  const scheduler = start();
  const machineId = await aRunningJob();
  host.faults.list = () => new VmError("vm_unusable", "the host is busy");
  await clock.advance(5_000);

  expect(scheduler.status().hosts[0]?.problem).toBe("the host is busy");
  expect((await store.job(4711))?.state).toBe("running");
  expect((await store.machine(machineId))?.state).toBe("busy");
});
