import { expect, test } from "vitest";
import { describeOnEveryDatabase } from "../../test/builders/databases.ts";
import { aClaim } from "../../test/builders/job.ts";
import { aNewMachine } from "../../test/builders/machine.ts";

describeOnEveryDatabase("jobs", (context) => {
  const machineId = "fr-aaaaaaaa";

  async function startedJob() {
    await context.store.claim(aClaim());
    await context.store.startJob(4711, aNewMachine({ id: machineId }));
    await context.store.markBooting(machineId);
  }

  async function runningJob() {
    await startedJob();
    await context.store.markReady(machineId);
    await context.store.handOver(4711, machineId);
  }

  test("a claim is stored with its payload, byte for byte", async () => {
    const claim = aClaim({ payload: '{"id": 4711, "ünï": "\\u0000", "spaces":  1}' });

    const moved = await context.store.claim(claim);

    expect(moved).toBe(true);
    expect(await context.store.payload(4711)).toBe(claim.payload);
    expect(await context.store.job(4711)).toEqual({
      id: 4711,
      pool: "small",
      runner: "glrt-abcd",
      state: "claimed",
      name: "build",
      stage: "test",
      project: "group/project",
      size: { cpus: 1, memoryMib: 1_024, diskMib: 4_096 },
      timeoutMs: 3_600_000,
      attempt: 0,
      machineId: null,
      traceHead: "",
      traceSize: 0,
      claimedAt: context.clock.now(),
      startingAt: null,
      runningAt: null,
      failingAt: null,
      finishedAt: null,
      reportAt: null,
      result: null,
      reason: null,
      cause: null,
      queuedMs: null,
      peakMemoryMib: null,
      peakDiskMib: null,
    });
  });

  test("a job that is claimed to be failed is failing as soon as it is known, and its failure can be reported", async () => {
    const failure = { reason: "its tag is no size", cause: "unservable" } as const;

    expect(await context.store.claim(aClaim({ jobId: 99, failure }))).toBe(true);

    const now = context.clock.now();
    const expected = { state: "failing", ...failure, claimedAt: now, failingAt: now, reportAt: now };
    expect(await context.store.job(99)).toMatchObject(expected);
    expect(await context.store.payload(99)).toBe(aClaim({ jobId: 99 }).payload);
    const kinds = (await context.store.events({ jobId: 99 })).map(({ kind }) => kind);
    expect(kinds).toEqual(["job:claimed", "job:failing"]);
    expect(await context.store.claim(aClaim({ jobId: 99, failure }))).toBe(false);
  });

  test("a job claimed twice is stored once, with its first payload", async () => {
    const first = aClaim();
    await context.store.claim(first);

    const moved = await context.store.claim(aClaim({ payload: "{}", pool: "other" }));

    expect(moved).toBe(false);
    expect(await context.store.payload(4711)).toBe(first.payload);
    expect(await context.store.events({ jobId: 4711 })).toHaveLength(1);
  });

  test("a claim survives a restart", async () => {
    await context.store.claim(aClaim());
    const { installationId } = context.store;
    const token = context.store.machineToken(machineId).reveal();

    await context.reopen();

    expect(await context.store.payload(4711)).toBe(aClaim().payload);
    expect(context.store.installationId).toBe(installationId);
    expect(context.store.machineToken(machineId).reveal()).toBe(token);
  });

  test("starting a job makes its machine in the same step and counts the attempt", async () => {
    await context.store.claim(aClaim());
    await context.clock.advance(500);

    const moved = await context.store.startJob(4711, aNewMachine());

    expect(moved).toBe(true);
    const startingAt = context.clock.now();
    expect(await context.store.job(4711)).toMatchObject({
      state: "starting",
      attempt: 1,
      machineId,
      startingAt,
    });
    expect(await context.store.machine(machineId)).toMatchObject({
      state: "creating",
      jobId: 4711,
      createdAt: startingAt,
    });
  });

  test("a job that is already starting gets no second machine", async () => {
    await startedJob();

    const moved = await context.store.startJob(4711, aNewMachine({ id: "fr-bbbbbbbb" }));

    expect(moved).toBe(false);
    expect(await context.store.machine("fr-bbbbbbbb")).toBeUndefined();
    expect(await context.store.job(4711)).toMatchObject({ attempt: 1, machineId });
  });

  test("a machine id that was used before starts nothing", async () => {
    await startedJob();
    await context.store.claim(aClaim({ jobId: 5 }));

    const moved = await context.store.startJob(5, aNewMachine({ id: machineId }));

    expect(moved).toBe(false);
    expect(await context.store.job(5)).toMatchObject({ state: "claimed", attempt: 0, machineId: null });
    expect(await context.store.machine(machineId)).toMatchObject({ jobId: 4711 });
  });

  test("an unknown job cannot be started, and no machine is made for it", async () => {
    expect(await context.store.startJob(1, aNewMachine())).toBe(false);
    expect(await context.store.machine(machineId)).toBeUndefined();
  });

  test("handing over moves job and machine together", async () => {
    await startedJob();
    await context.store.markReady(machineId);

    const moved = await context.store.handOver(4711, machineId);

    expect(moved).toBe(true);
    const now = context.clock.now();
    expect(await context.store.job(4711)).toMatchObject({ state: "running", runningAt: now });
    expect(await context.store.machine(machineId)).toMatchObject({ state: "busy", busyAt: now });
  });

  test("handing over to a machine that was not yet known to be ready passes through ready", async () => {
    await startedJob();

    const moved = await context.store.handOver(4711, machineId);

    expect(moved).toBe(true);
    const kinds = (await context.store.events({ machineId })).map((event) => event.kind);
    expect(kinds.slice(-3)).toEqual(["machine:ready", "machine:busy", "job:running"]);
  });

  test("a payload is handed over once", async () => {
    await runningJob();

    expect(await context.store.handOver(4711, machineId)).toBe(false);
  });

  test("another machine is never handed the payload", async () => {
    await startedJob();
    await context.store.claim(aClaim({ jobId: 5 }));
    await context.store.startJob(5, aNewMachine({ id: "fr-bbbbbbbb" }));
    await context.store.markBooting("fr-bbbbbbbb");

    const moved = await context.store.handOver(4711, "fr-bbbbbbbb");

    expect(moved).toBe(false);
    expect(await context.store.job(4711)).toMatchObject({ state: "starting", runningAt: null });
    expect(await context.store.machine("fr-bbbbbbbb")).toMatchObject({ state: "booting", readyAt: null });
  });

  test("a machine that is being stopped is not handed the payload, and the job stays as it is", async () => {
    await startedJob();
    await context.store.stopMachine(machineId, "died");

    const moved = await context.store.handOver(4711, machineId);

    expect(moved).toBe(false);
    expect(await context.store.job(4711)).toMatchObject({ state: "starting" });
    const kinds = (await context.store.events({ jobId: 4711 })).map((event) => event.kind);
    expect(kinds).not.toContain("job:running");
  });

  test("a retry keeps the count, lets go of the machine and stops it", async () => {
    await startedJob();

    const moved = await context.store.retryJob(4711, "the machine died");

    expect(moved).toBe(true);
    expect(await context.store.job(4711)).toMatchObject({ state: "claimed", attempt: 1, machineId: null });
    expect(await context.store.machine(machineId)).toMatchObject({
      state: "stopping",
      reason: "the machine died",
    });
    expect(await context.store.payload(4711)).toBe(aClaim().payload);
    expect((await context.store.events({ jobId: 4711 })).at(-1)).toMatchObject({
      kind: "job:retried",
      machineId,
      detail: { machineId, reason: "the machine died", attempt: 1 },
    });
  });

  test("a retried job starts again as the next attempt", async () => {
    await startedJob();
    await context.store.stopMachine(machineId, "died first");
    await context.store.retryJob(4711, "the machine died");

    const moved = await context.store.startJob(4711, aNewMachine({ id: "fr-bbbbbbbb" }));

    expect(moved).toBe(true);
    expect(await context.store.job(4711)).toMatchObject({ attempt: 2, machineId: "fr-bbbbbbbb" });
    expect(await context.store.machine(machineId)).toMatchObject({ reason: "died first" });
  });

  test("a job that runs is never retried", async () => {
    await runningJob();

    expect(await context.store.retryJob(4711, "the machine died")).toBe(false);
    expect(await context.store.machine(machineId)).toMatchObject({ state: "busy" });
  });

  test("a failing job owes a report at once, and later when that one fails", async () => {
    await runningJob();

    expect(await context.store.failJob(4711, { reason: "the machine died", cause: "machine" })).toBe(true);
    const failingAt = context.clock.now();
    expect(await context.store.job(4711)).toMatchObject({ state: "failing", failingAt, reportAt: failingAt });
    await context.store.postponeReport(4711, failingAt + 5_000, "GitLab answered 502");

    expect(await context.store.job(4711)).toMatchObject({ reportAt: failingAt + 5_000 });
    expect(await context.store.failJob(4711, { reason: "again", cause: "machine" })).toBe(false);
    expect(await context.store.payload(4711)).toBe(aClaim().payload);
  });

  test("a report is only postponed while one is due", async () => {
    await runningJob();

    await context.store.postponeReport(4711, 1, "GitLab answered 502");

    expect(await context.store.job(4711)).toMatchObject({ reportAt: null });
    const kinds = (await context.store.events({ jobId: 4711 })).map((event) => event.kind);
    expect(kinds).not.toContain("job:report-failed");
  });

  test("finishing erases the payload and keeps why it failed", async () => {
    await runningJob();
    await context.store.failJob(4711, { reason: "the machine died", cause: "machine" });
    await context.clock.advance(1_000);

    const moved = await context.store.finishJob(4711, "failed");

    expect(moved).toBe(true);
    expect(await context.store.payload(4711)).toBeUndefined();
    expect(await context.store.job(4711)).toMatchObject({
      state: "finished",
      result: "failed",
      reason: "the machine died",
      cause: "machine",
      finishedAt: context.clock.now(),
      reportAt: null,
    });
    expect((await context.store.events({ jobId: 4711 })).at(-1)).toMatchObject({
      kind: "job:finished",
      detail: { result: "failed", reason: "the machine died", cause: "machine" },
    });
  });

  test("a job that GitLab canceled while its failure was reported is blamed on nothing", async () => {
    await runningJob();
    await context.store.failJob(4711, { reason: "the machine died", cause: "machine" });

    await context.store.finishJob(4711, "canceled");

    expect(await context.store.job(4711)).toMatchObject({ reason: "the machine died", cause: null });
  });

  test("a job canceled before it started finishes from claimed", async () => {
    await context.store.claim(aClaim());

    expect(await context.store.finishJob(4711, "canceled", { reason: "canceled in GitLab" })).toBe(true);
    expect(await context.store.payload(4711)).toBeUndefined();
    expect(await context.store.startJob(4711, aNewMachine())).toBe(false);
  });

  test("a job ends once", async () => {
    await runningJob();
    await context.store.finishJob(4711, "success");

    expect(await context.store.finishJob(4711, "failed", { reason: "late" })).toBe(false);
    expect(await context.store.failJob(4711, { reason: "late", cause: "machine" })).toBe(false);
    expect(await context.store.job(4711)).toMatchObject({ result: "success", reason: null });
  });

  test("the head of the trace grows until the job runs", async () => {
    await context.store.claim(aClaim());
    await context.store.addTraceHead(4711, "first\n");
    await context.store.startJob(4711, aNewMachine());
    await context.store.markBooting(machineId);
    await context.store.addTraceHead(4711, "zweitens: ü 50%\n");
    await context.store.handOver(4711, machineId);

    const late = await context.store.addTraceHead(4711, "too late\n");

    expect(late).toBe(false);
    expect(await context.store.job(4711)).toMatchObject({ traceHead: "first\nzweitens: ü 50%\n" });
  });

  test("reasons and heads that hold what a broken guest printed are stored all the same", async () => {
    const noise = "console: \0\x1b[31m\ufffe %s \u{1f525}";
    await startedJob();

    await context.store.addTraceHead(4711, noise);
    await context.store.stopMachine(machineId, noise);
    await context.store.failJob(4711, { reason: noise, cause: "machine" });

    const shown = noise.replace("\0", "\ufffd");
    expect(await context.store.job(4711)).toMatchObject({ reason: shown, traceHead: shown });
    expect(await context.store.machine(machineId)).toMatchObject({ reason: shown });
  });

  test("the size of the trace is remembered beyond 4 GiB", async () => {
    await context.store.claim(aClaim());

    await context.store.setTraceSize(4711, 5_000_000_000);

    expect(await context.store.job(4711)).toMatchObject({ traceSize: 5_000_000_000 });
  });

  test("jobs are listed newest first, all unfinished or the last few", async () => {
    for (const jobId of [1, 2, 3, 4]) {
      await context.store.claim(aClaim({ jobId }));
      await context.clock.advance(1_000);
    }
    await context.store.finishJob(3, "success");

    const ids = async (filter?: { unfinished?: boolean; limit?: number }) =>
      (await context.store.jobs(filter)).map((job) => job.id);
    expect(await ids()).toEqual([4, 3, 2, 1]);
    expect(await ids({ limit: 2 })).toEqual([4, 3]);
    expect(await ids({ unfinished: true })).toEqual([4, 2, 1]);
  });

  test("200 claims, starts and ends at the same time do not mix", async () => {
    const { store } = context;
    const ids = Array.from({ length: 50 }, (_, index) => index + 1);
    const letters = "abcdefghijklmnopqrstuvwxyz234567";
    const idOf = (id: number) => `fr-${"a".repeat(6)}${letters[id >> 5]}${letters[id & 31]}`;

    const answers = await Promise.all(
      ids.flatMap((jobId) => [
        store.claim(aClaim({ jobId })),
        store.startJob(jobId, aNewMachine({ id: idOf(jobId) })),
        store.startJob(jobId, aNewMachine({ id: idOf(jobId) })),
        store.finishJob(jobId, "canceled"),
      ]),
    );

    expect(answers).toEqual(ids.flatMap(() => [true, true, false, true]));
    const events = await store.events({});
    expect(events.map((event) => event.seq)).toEqual(Array.from({ length: 200 }, (_, index) => index + 1));
    const jobs = await store.jobs({ limit: 1_000 });
    expect(jobs.every((job) => job.state === "finished" && job.machineId === idOf(job.id))).toBe(true);
  });
});
