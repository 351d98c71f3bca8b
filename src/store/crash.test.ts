import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { aDelivery } from "../../test/builders/delivery.ts";
import { systemClock } from "../base/clock.ts";
import { silentLog } from "../base/log.ts";
import { createStore } from "./create-store.ts";

const root = join(import.meta.dirname, "../..");

/** Claims and starts jobs as fast as it can, printing each id only after the store has answered. */
const claimer = `
  const { createStore } = await import("${root}/src/store/create-store.ts");
  const { aClaim } = await import("${root}/test/builders/job.ts");
  const { aNewMachine } = await import("${root}/test/builders/machine.ts");
  const { newMachineId } = await import("${root}/src/base/ids.ts");
  const { systemClock } = await import("${root}/src/base/clock.ts");
  const { silentLog } = await import("${root}/src/base/log.ts");
  const [database, keyFile] = process.argv.slice(1);
  const store = await createStore({ database, keyFile, clock: systemClock, log: silentLog });
  for (let jobId = 1; ; jobId++) {
    await store.claim(aClaim({ jobId }));
    console.log(jobId);
    await store.startJob(jobId, aNewMachine({ id: newMachineId() }));
  }
`;

/** Stores batches of deliveries side by side, printing the keys of each only after the store has answered. */
const receiver = `
  const { createStore } = await import("${root}/src/store/create-store.ts");
  const { aDelivery } = await import("${root}/test/builders/delivery.ts");
  const { systemClock } = await import("${root}/src/base/clock.ts");
  const { silentLog } = await import("${root}/src/base/log.ts");
  const [database, keyFile] = process.argv.slice(1);
  const store = await createStore({ database, keyFile, clock: systemClock, log: silentLog });
  let next = 0;
  async function receive() {
    for (;;) {
      const batch = Array.from({ length: 1 + (next % 90) }, () => aDelivery({ key: String(next++), jobId: next }));
      await store.keepDeliveries(batch);
      console.log(batch.map(({ key }) => key).join(" "));
    }
  }
  await Promise.all([receive(), receive(), receive()]);
`;

describe("store of a killed process", () => {
  let directory: string;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "fr-crash-"));
  });
  afterEach(() => rm(directory, { recursive: true, force: true }));

  test("has every claim that was answered, with its payload, and no half-made move", async () => {
    const database = join(directory, "firerunner.db");
    const keyFile = join(directory, "key");
    const child = spawn(process.execPath, ["--input-type=module", "-e", claimer, database, keyFile], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const exited = once(child, "exit");
    const answered: number[] = [];
    for await (const line of createInterface({ input: child.stdout })) {
      answered.push(Number(line));
      if (answered.length === 100) child.kill("SIGKILL");
    }
    await exited;

    const store = await createStore({ database, keyFile, clock: systemClock, log: silentLog });
    const jobs = await store.jobs({ unfinished: true });
    const machines = await store.machines({ live: true });

    expect(answered.length).toBeGreaterThanOrEqual(100);
    for (const id of answered) expect(await store.payload(id)).toContain(`"id":${id}`);
    const started = jobs.filter((job) => job.state === "starting").map((job) => job.machineId);
    expect(started.toSorted()).toEqual(machines.map((machine) => machine.id).toSorted());
    await store.close();
  });

  test("has every delivery that was answered, whole batches of them", async () => {
    const database = join(directory, "firerunner.db");
    const keyFile = join(directory, "key");
    const child = spawn(process.execPath, ["--input-type=module", "-e", receiver, database, keyFile], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const exited = once(child, "exit");
    const answered: string[][] = [];
    for await (const line of createInterface({ input: child.stdout })) {
      answered.push(line.split(" "));
      if (answered.length === 60) child.kill("SIGKILL");
    }
    await exited;

    const store = await createStore({ database, keyFile, clock: systemClock, log: silentLog });
    const kept = new Set((await store.deliveries({ limit: 1e6 })).map(({ key }) => key));
    const again = answered.flat().map((key) => aDelivery({ key }));

    expect(answered.length).toBeGreaterThanOrEqual(60);
    expect(answered.flat().filter((key) => !kept.has(key))).toEqual([]);
    expect(await store.keepDeliveries(again)).toEqual(again.map(() => false));
    expect(await store.projects()).toMatchObject([{ id: 7, hookedAt: expect.any(Number) }]);
    await store.close();
  });
});
