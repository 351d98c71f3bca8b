import { expect, test } from "vitest";
import { describeOnEveryDatabase } from "../../test/builders/databases.ts";
import { aClaim } from "../../test/builders/job.ts";
import { aNewMachine } from "../../test/builders/machine.ts";

describeOnEveryDatabase("pruning", (context) => {
  async function startJob(jobId: number, machineId: string) {
    await context.store.claim(aClaim({ jobId }));
    await context.store.startJob(jobId, aNewMachine({ id: machineId }));
  }

  async function endMachine(machineId: string) {
    await context.store.stopMachine(machineId, "its job has ended");
    await context.store.markGone(machineId);
  }

  async function later(): Promise<number> {
    await context.clock.advance(1_000);
    return context.clock.now();
  }

  test("what ended before the limit goes with its events, what ended later stays", async () => {
    await startJob(1, "fr-aaaaaaaa");
    await context.store.finishJob(1, "success");
    await endMachine("fr-aaaaaaaa");
    const limit = await later();
    await startJob(2, "fr-bbbbbbbb");
    await context.store.finishJob(2, "success");
    await endMachine("fr-bbbbbbbb");

    const deleted = await context.store.prune(limit);

    expect(deleted).toBe(1 + 1 + 6);
    expect((await context.store.jobs()).map((job) => job.id)).toEqual([2]);
    expect((await context.store.machines()).map((machine) => machine.id)).toEqual(["fr-bbbbbbbb"]);
    expect(await context.store.events({ jobId: 1 })).toEqual([]);
    expect(await context.store.events({ jobId: 2 })).toHaveLength(6);
  });

  test("an old job that is not finished stays with all its events and the machines it has used", async () => {
    await startJob(1, "fr-aaaaaaaa");
    await context.store.retryJob(1, "died");
    await context.store.markGone("fr-aaaaaaaa");
    const events = await context.store.events({ jobId: 1 });

    expect(await context.store.prune(await later())).toBe(0);
    expect(await context.store.machine("fr-aaaaaaaa")).toMatchObject({ state: "gone" });
    expect(await context.store.events({ jobId: 1 })).toEqual(events);
  });

  test("a finished job stays while its machine is not proven gone", async () => {
    await startJob(1, "fr-aaaaaaaa");
    await context.store.finishJob(1, "success");
    await context.store.stopMachine("fr-aaaaaaaa", "its job has ended");

    expect(await context.store.prune(await later())).toBe(0);
    expect(await context.store.job(1)).toMatchObject({ state: "finished" });
  });

  test("old events about machines that were never ours go too", async () => {
    await context.store.note("machine:unknown", { machineId: "fr-zzzzzzzz" }, { host: "local" });

    expect(await context.store.prune(await later())).toBe(1);
  });

  test("more than one batch is deleted", async () => {
    const strangers = Array.from({ length: 520 }, (_, index) => `fr-${index}`);
    const { store } = context;
    await Promise.all(
      strangers.map((machineId) => store.note("machine:unknown", { machineId }, { host: "local" })),
    );

    expect(await store.prune(await later())).toBe(520);
    expect(await store.events({})).toEqual([]);
  });
});
