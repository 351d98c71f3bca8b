import { open, stat } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { aClaim } from "../../test/builders/job.ts";
import { smallVolume } from "../../test/builders/small-volume.ts";
import { temporaryDirectory } from "../../test/builders/temporary-directory.ts";
import { systemClock } from "../base/clock.ts";
import { systemCode } from "../base/errors.ts";
import { silentLog } from "../base/log.ts";
import { createManualClock } from "../base/manual-clock.ts";
import { createStore } from "./create-store.ts";
import { createReserve } from "./writer.ts";

const MIB = 1024 ** 2;
const asRoot = process.getuid?.() === 0;

test("the reserve takes up its size, is given away once, and is made again later", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "reserve");
  const clock = createManualClock();
  const reserve = createReserve(path, 2 * MIB, clock);
  const size = () =>
    stat(path).then(
      ({ blocks }) => blocks * 512,
      () => 0,
    );
  await reserve.keep();
  const made = await size();

  expect([await reserve.release(), await reserve.release()]).toEqual([true, false]);
  await reserve.keep();
  const soonAfter = await size();
  await clock.advance(10_000);
  await reserve.keep();

  expect(made).toBeGreaterThanOrEqual(2 * MIB);
  expect(soonAfter).toBe(0);
  expect(await size()).toBeGreaterThanOrEqual(2 * MIB);
});

// Only root may mount a volume that can be filled.
describe.skipIf(!asRoot)("a volume that is full", () => {
  async function fill(directory: string): Promise<void> {
    const file = await open(join(directory, "other"), "a");
    const chunk = Buffer.alloc(4_096, 1);
    try {
      for (;;) await file.appendFile(chunk);
    } catch (error) {
      expect(systemCode(error)).toBe("ENOSPC");
    } finally {
      await file.close();
    }
  }

  async function aStoreOn(path: string, reserveMib: number) {
    const reserve = createReserve(join(path, "reserve"), reserveMib * MIB, systemClock);
    const [database, keyFile] = [join(path, "firerunner.db"), join(path, "key")];
    return await createStore({ database, keyFile, clock: systemClock, log: silentLog, reserve });
  }

  test("takes the ends of jobs from the reserve, and nothing is lost", async () => {
    await using volume = await smallVolume(32);
    const jobs = [1, 2, 3, 4, 5];
    const store = await aStoreOn(volume.path, 4);
    for (const jobId of jobs) await store.claim(aClaim({ jobId }));
    await fill(volume.path);

    const long = "its host's disk is full ".repeat(1_000);
    for (const jobId of jobs)
      expect(await store.failJob(jobId, { reason: long, cause: "host-disk" })).toBe(true);
    await store.close();
    await using again = await closing(aStoreOn(volume.path, 4));

    expect((await again.store.jobs({ unfinished: true })).map(({ state }) => state)).toEqual(
      Array(5).fill("failing"),
    );
    expect((await again.store.events({})).filter(({ kind }) => kind === "job:failing")).toHaveLength(5);
  });

  async function closing(opening: ReturnType<typeof aStoreOn>) {
    const store = await opening;
    return { store, [Symbol.asyncDispose]: () => store.close() };
  }

  test("makes no reserve where there is little room", async () => {
    await using volume = await smallVolume(10);
    const path = join(volume.path, "reserve");

    await createReserve(path, 4 * MIB, createManualClock()).keep();

    await expect(stat(path)).rejects.toMatchObject({ code: "ENOENT" });
  });
});
