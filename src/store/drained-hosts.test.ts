import { expect, test } from "vitest";
import { describeOnEveryDatabase } from "../../test/builders/databases.ts";

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
