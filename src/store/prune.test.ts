import { expect, test } from "vitest";
import { describeOnEveryDatabase } from "../../test/builders/databases.ts";
import { aDelivery } from "../../test/builders/delivery.ts";
import { aClaim } from "../../test/builders/job.ts";
import { aNewMachine } from "../../test/builders/machine.ts";
import { aGivenRunner, aNewRunner } from "../../test/builders/managed-runner.ts";

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

  const hour = 3_600_000;

  async function keysAfterPruning(keepMs: number): Promise<string[]> {
    await context.store.prune(context.clock.now() - keepMs);
    return (await context.store.deliveries()).map(({ key }) => key);
  }

  test("deliveries stay as long as GitLab may send them again, and no longer than three days", async () => {
    const { store, clock } = context;
    await store.keepDeliveries([aDelivery({ key: "old" })]);
    await clock.advance(30 * hour);
    await store.keepDeliveries([aDelivery({ key: "new" })]);
    await clock.advance(hour);

    expect(await keysAfterPruning(hour)).toEqual(["new", "old"]);
    await clock.advance(20 * hour);
    expect(await keysAfterPruning(60 * hour)).toEqual(["new", "old"]);
    expect(await keysAfterPruning(hour)).toEqual(["new"]);
    await clock.advance(50 * hour);
    expect(await keysAfterPruning(1_000 * hour)).toEqual(["new"]);
    await clock.advance(2 * hour);
    expect(await keysAfterPruning(1_000 * hour)).toEqual([]);
  });

  test("more than one batch of deliveries is deleted", async () => {
    const { store, clock } = context;
    await store.keepDeliveries(Array.from({ length: 1_100 }, (_, n) => aDelivery({ key: `${n}` })));
    await clock.advance(80 * hour);

    expect(await store.prune(0)).toBe(1_100);
    expect(await store.projects()).toHaveLength(1);
  });

  test("runners that are gone go with their events, live ones stay however old", async () => {
    const { store } = context;
    for (const [key, tag] of [
      ["r-1", "a"],
      ["r-2", "b"],
      ["r-3", "c"],
    ] as const) {
      await store.addRunner(aNewRunner({ key, tags: [tag] }));
    }
    await store.activateRunner("r-1", aGivenRunner());
    await store.retireRunner("r-2", "unused");
    await store.markRunnerGone("r-3");

    await store.prune(await later());

    expect((await store.runners({ gone: true })).map(({ key }) => key)).toEqual(["r-1", "r-2"]);
    expect((await store.runnerToken("r-1"))?.reveal()).toBe("glrt-token-of-the-runner");
  });

  test("old events about jobs that nobody claimed here go, those of a job that was stay with it", async () => {
    const { store } = context;
    const noticed = { project: "group/project", name: "build", tags: [], hook: true };
    await store.note("job:noticed", { jobId: 1 }, noticed);
    await store.note("job:noticed", { jobId: 2 }, noticed);
    await store.note("job:no-longer-pending", { jobId: 2 }, {});
    await store.claim(aClaim({ jobId: 1 }));

    expect(await store.prune(await later())).toBe(2);
    expect((await store.events({})).map(({ kind, jobId }) => [kind, jobId])).toEqual([
      ["job:noticed", 1],
      ["job:claimed", 1],
    ]);
  });
});
