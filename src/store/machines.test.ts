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

describeOnEveryDatabase("links of machines", (context) => {
  const id = "fr-aaaaaaaa";

  async function newMachine(machineId = id, jobId = 4711) {
    await context.store.claim(aClaim({ jobId }));
    await context.store.startJob(jobId, aNewMachine({ id: machineId }));
  }

  async function issue(machineId = id): Promise<string> {
    const secret = await context.store.issueLink(machineId);
    if (secret === undefined) throw new Error("no secret");
    return secret.reveal();
  }

  test("a secret has 256 bits, differs each time and opens its own machine only", async () => {
    await newMachine();
    await newMachine("fr-bbbbbbbb", 4712);
    const [mine, others] = [await issue(), await issue("fr-bbbbbbbb")];

    expect(mine).toMatch(/^[0-9a-f]{64}$/);
    expect(mine).not.toBe(others);
    expect(await context.store.checkLink(id, mine)).toBe(true);
    expect(await context.store.checkLink(id, others)).toBe(false);
    expect(await context.store.checkLink("fr-bbbbbbbb", mine)).toBe(false);
    expect(await context.store.checkLink(id, "")).toBe(false);
  });

  test("a new secret takes the place of the old one", async () => {
    await newMachine();
    const [first, second] = [await issue(), await issue()];

    expect(await context.store.checkLink(id, first)).toBe(false);
    expect(await context.store.checkLink(id, second)).toBe(true);
  });

  test("a secret is good over a restart and through the machine's life, until it is stopped", async () => {
    await newMachine();
    const secret = await issue();
    await context.reopen();
    const good: boolean[] = [await context.store.checkLink(id, secret)];
    const steps = [
      () => context.store.markBooting(id),
      () => context.store.markReady(id),
      () => context.store.handOver(4711, id),
      () => context.store.stopMachine(id, "its job has ended"),
      () => context.store.markGone(id),
    ];
    for (const step of steps) {
      await step();
      good.push(await context.store.checkLink(id, secret));
    }

    expect(good).toEqual([true, true, true, true, false, false]);
  });

  test("a machine given up before it took its job is let in no more", async () => {
    await newMachine();
    const secret = await issue();
    await context.store.retryJob(4711, "the machine crashed");

    expect(await context.store.checkLink(id, secret)).toBe(false);
  });

  test("only a machine that is being created gets one", async () => {
    await newMachine();
    const secret = await issue();
    await context.store.markBooting(id);

    expect(await context.store.issueLink(id)).toBeUndefined();
    expect(await context.store.issueLink("fr-zzzzzzzz")).toBeUndefined();
    expect(await context.store.checkLink(id, secret)).toBe(true);
    expect(await context.store.checkLink("fr-zzzzzzzz", "")).toBe(false);
  });

  test("a machine that is gone is forgotten like any other", async () => {
    await newMachine();
    await issue();
    await context.store.stopMachine(id, "done");
    await context.store.markGone(id);
    await context.store.finishJob(4711, "success");
    await context.clock.advance(10);

    expect(await context.store.prune(context.clock.now())).toBeGreaterThan(1);
    expect(await context.store.machine(id)).toBeUndefined();
  });
});

describeOnEveryDatabase("drained hosts", (context) => {
  test("stay drained over a restart, until they are resumed", async () => {
    await context.store.drainHost("flintlock/metal-2");
    await context.store.drainHost("flintlock/metal-1");
    await context.reopen();
    const drained = await context.store.drainedHosts();
    await context.store.resumeHost("flintlock/metal-1");

    expect(drained).toEqual(["flintlock/metal-1", "flintlock/metal-2"]);
    expect(await context.store.drainedHosts()).toEqual(["flintlock/metal-2"]);
  });

  test("are told of once, however often they are drained", async () => {
    const told: string[] = [];
    context.store.onEvent(({ kind }) => told.push(kind));

    await context.store.drainHost("qemu");
    await context.store.drainHost("qemu");
    await context.store.resumeHost("qemu");
    await context.store.resumeHost("qemu");

    expect(told).toEqual(["host:drained", "host:resumed"]);
  });
});
