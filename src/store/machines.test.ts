import { expect, test } from "vitest";
import { describeOnEveryDatabase } from "../../test/builders/databases.ts";
import { aClaim } from "../../test/builders/job.ts";
import { aNewMachine } from "../../test/builders/machine.ts";

describeOnEveryDatabase("machines", (context) => {
  const id = "fr-aaaaaaaa";

  async function newMachine(machineId = id, jobId = 4711) {
    await context.store.claim(aClaim({ jobId }));
    await context.store.startJob(jobId, aNewMachine({ id: machineId }));
  }

  test("a machine keeps what it was made with", async () => {
    await newMachine();

    expect(await context.store.machine(id)).toEqual({
      ...aNewMachine(),
      jobId: 4711,
      state: "creating",
      reason: null,
      cause: null,
      createdAt: context.clock.now(),
      bootingAt: null,
      heardAt: null,
      readyAt: null,
      busyAt: null,
      stoppingAt: null,
      goneAt: null,
    });
  });

  test("a machine walks from creating to gone and remembers when", async () => {
    await newMachine();
    const start = context.clock.now();
    const steps = [
      () => context.store.markBooting(id),
      () => context.store.markHeard(id),
      () => context.store.markReady(id),
      () => context.store.handOver(4711, id),
      () => context.store.stopMachine(id, "its job has ended"),
      () => context.store.markGone(id),
    ];
    for (const step of steps) {
      await context.clock.advance(100);
      expect(await step()).toBe(true);
    }

    expect(await context.store.machine(id)).toMatchObject({
      state: "gone",
      reason: "its job has ended",
      createdAt: start,
      bootingAt: start + 100,
      heardAt: start + 200,
      readyAt: start + 300,
      busyAt: start + 400,
      stoppingAt: start + 500,
      goneAt: start + 600,
    });
  });

  test("a machine that was never told to stop is not gone", async () => {
    await newMachine();

    expect(await context.store.markGone(id)).toBe(false);
    expect(await context.store.machine(id)).toMatchObject({ state: "creating", goneAt: null });
  });

  test("a machine that does not boot yet is not ready", async () => {
    await newMachine();

    expect(await context.store.markReady(id)).toBe(false);
  });

  test("the first reason to stop stays", async () => {
    await newMachine();
    await context.store.stopMachine(id, "its job was canceled");

    expect(await context.store.stopMachine(id, "its process ended")).toBe(false);
    expect(await context.store.machine(id)).toMatchObject({ reason: "its job was canceled" });
  });

  test("a machine is heard for the first time once", async () => {
    await newMachine();
    await context.store.markHeard(id);
    const heardAt = context.clock.now();
    await context.clock.advance(1_000);

    expect(await context.store.markHeard(id)).toBe(false);
    expect(await context.store.machine(id)).toMatchObject({ heardAt });
    const heard = (await context.store.events({ machineId: id })).filter(
      (event) => event.kind === "machine:heard",
    );
    expect(heard).toHaveLength(1);
  });

  test("an unknown machine moves nowhere", async () => {
    expect(await context.store.machine(id)).toBeUndefined();
    expect(await context.store.markBooting(id)).toBe(false);
    expect(await context.store.markHeard(id)).toBe(false);
    expect(await context.store.stopMachine(id, "no such machine")).toBe(false);
    expect(await context.store.events({})).toEqual([]);
  });

  test("machines are listed newest first, all live or the last few", async () => {
    for (const [index, machineId] of ["fr-aaaaaaaa", "fr-bbbbbbbb", "fr-cccccccc"].entries()) {
      await newMachine(machineId, index + 1);
      await context.clock.advance(1_000);
    }
    await context.store.stopMachine("fr-bbbbbbbb", "done");
    await context.store.markGone("fr-bbbbbbbb");

    const ids = async (filter?: { live?: boolean; limit?: number }) =>
      (await context.store.machines(filter)).map((machine) => machine.id);
    expect(await ids()).toEqual(["fr-cccccccc", "fr-bbbbbbbb", "fr-aaaaaaaa"]);
    expect(await ids({ limit: 1 })).toEqual(["fr-cccccccc"]);
    expect(await ids({ live: true })).toEqual(["fr-cccccccc", "fr-aaaaaaaa"]);
  });

  test("machine tokens differ per machine and do not show when printed", () => {
    const first = context.store.machineToken("fr-aaaaaaaa");
    const second = context.store.machineToken("fr-bbbbbbbb");

    expect(first.reveal()).not.toBe(second.reveal());
    expect(first.reveal()).toMatch(/^frmt-[A-Za-z0-9_-]{43}$/);
    expect(`${first}`).not.toContain(first.reveal());
  });
});
