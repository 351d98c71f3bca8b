import { expect, test } from "vitest";
import { describeOnEveryDatabase } from "../../test/builders/databases.ts";
import { aClaim } from "../../test/builders/job.ts";
import { aNewMachine } from "../../test/builders/machine.ts";

const trace = {
  traceId: "4bf92f3577b34da6a3ce929d0e0e4736",
  parentSpanId: "00f067aa0ba902b7",
  pipelineId: 99,
  projectId: 7,
};

describeOnEveryDatabase("traces of jobs", (context) => {
  const dueIds = async () => (await context.store.dueTraces(10)).map(({ jobId }) => jobId);

  async function startJob(jobId: number, machineId: string) {
    await context.store.claim(aClaim({ jobId, trace }));
    await context.store.startJob(jobId, aNewMachine({ id: machineId }));
  }

  async function endMachine(machineId: string) {
    await context.store.stopMachine(machineId, "its job has ended");
    await context.store.markGone(machineId);
  }

  test("are due when GitLab has the end and no machine is left, in whatever order", async () => {
    const { store } = context;
    await startJob(1, "fr-aaaaaaaa");
    await startJob(2, "fr-bbbbbbbb");
    await context.store.claim(aClaim({ jobId: 3, trace }));
    expect(await dueIds()).toEqual([]);

    await store.finishJob(1, "success");
    await endMachine("fr-bbbbbbbb");
    expect(await dueIds()).toEqual([]);
    expect(await store.waitingTraces()).toBe(1);

    await endMachine("fr-aaaaaaaa");
    await context.clock.advance(1);
    await store.finishJob(3, "canceled");
    await context.clock.advance(1);
    await store.finishJob(2, "failed");
    expect(await dueIds()).toEqual([1, 3, 2]);
    expect(await store.dueTraces(1)).toEqual([{ jobId: 1, ...trace }]);
  });

  test("are due until they are settled, and can be looked up afterwards", async () => {
    const { store } = context;
    for (const jobId of [1, 2]) {
      await store.claim(aClaim({ jobId, trace }));
      await store.finishJob(jobId, "success");
    }

    await store.settleTraces([1]);
    await store.settleTraces([]);

    expect(await dueIds()).toEqual([2]);
    expect(await store.waitingTraces()).toBe(1);
    expect(await store.trace(1)).toEqual({ jobId: 1, ...trace });
  });

  test("of jobs that ended too long ago are given up, and counted", async () => {
    const { store } = context;
    await startJob(1, "fr-aaaaaaaa");
    await startJob(2, "fr-bbbbbbbb");
    await store.finishJob(1, "success");
    await context.clock.advance(1_000);
    const limit = context.clock.now();
    await store.finishJob(2, "success");
    await startJob(3, "fr-cccccccc");

    expect(await store.giveUpTraces(limit)).toBe(1);
    expect(await store.giveUpTraces(limit)).toBe(0);
    for (const id of ["fr-aaaaaaaa", "fr-bbbbbbbb"]) await endMachine(id);
    expect(await dueIds()).toEqual([2]);
  });

  test("of a job that nobody traces is none", async () => {
    await context.store.claim(aClaim({ jobId: 1 }));
    await context.store.finishJob(1, "success");

    expect(await dueIds()).toEqual([]);
    expect(await context.store.trace(1)).toBeUndefined();
  });

  test("go with the job when its history does", async () => {
    await startJob(1, "fr-aaaaaaaa");
    await context.store.finishJob(1, "success");
    await endMachine("fr-aaaaaaaa");
    await context.clock.advance(1_000);

    await context.store.prune(context.clock.now());

    expect(await context.store.job(1)).toBeUndefined();
    expect(await context.store.trace(1)).toBeUndefined();
    expect(await context.store.waitingTraces()).toBe(0);
  });

  test("are made of events of the kinds that tell of machines, however many others there are", async () => {
    const { store } = context;
    await startJob(1, "fr-aaaaaaaa");
    for (const target of ["a.example:443", "b.example:443", "c.example:443"])
      await store.note("egress:asked", { machineId: "fr-aaaaaaaa" }, { target });
    await store.finishJob(1, "success");

    const events = await store.events({ jobId: 1, kinds: ["job:claimed", "job:finished"], limit: 2 });

    expect(events.map(({ kind }) => kind)).toEqual(["job:claimed", "job:finished"]);
  });
});
