import { expect, test } from "vitest";
import { describeOnEveryDatabase } from "../../test/builders/databases.ts";
import { aClaim } from "../../test/builders/job.ts";
import { aNewMachine } from "../../test/builders/machine.ts";

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
