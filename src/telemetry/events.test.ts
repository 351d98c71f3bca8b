import { describe, expect, test } from "vitest";
import { createListeners } from "../base/listeners.ts";
import type { Log } from "../base/log.ts";
import type { EventDetails, EventKind, LifecycleEvent } from "../domain/events.ts";
import { logEvents } from "./events.ts";

type Line = { level: string; message: string } & Record<string, unknown>;

function createRecorder(): Log & { readonly lines: Line[] } {
  const lines: Line[] = [];
  const at = (level: string) => (fields: object, message: string) => {
    lines.push({ ...fields, level, message });
  };
  const log = { lines, debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
  return { ...log, child: () => createRecorder() };
}

/** A stand-in for the store's log: events get numbers, are kept, and are told to listeners. */
function createHistory() {
  const listeners = createListeners<LifecycleEvent>();
  const all: LifecycleEvent[] = [];
  return {
    onEvent: listeners.add,
    history: async (jobId: number) => all.filter((event) => event.jobId === jobId),
    add<Kind extends EventKind>(
      at: number,
      kind: Kind,
      machineId: string | null,
      detail: EventDetails[Kind],
    ) {
      const event = {
        seq: all.length + 1,
        at,
        kind,
        jobId: 7,
        machineId,
        detail,
      } as unknown as LifecycleEvent;
      all.push(event);
      listeners.emit(event);
    },
  };
}

const claim = { pool: "small", runner: "glrt-abcd", name: "build", project: "g/p", pollMs: 40 };

function tellWholeJob({ add }: ReturnType<typeof createHistory>): void {
  add(1_000, "job:claimed", null, claim);
  add(1_010, "job:starting", "fr-a", { machineId: "fr-a", attempt: 1, host: "local" });
  add(1_010, "machine:creating", "fr-a", { host: "local", driver: "qemu", cpus: 1, memoryMib: 512 });
  add(1_100, "machine:booting", "fr-a", {});
  add(3_100, "machine:heard", "fr-a", {});
  add(3_600, "machine:ready", "fr-a", {});
  add(3_605, "job:running", "fr-a", { machineId: "fr-a" });
  add(9_605, "job:finished", "fr-a", { result: "success" });
  add(9_606, "machine:stopping", "fr-a", { reason: "its job has ended" });
}

const records = (log: { lines: Line[] }) => log.lines.filter(({ message }) => message === "job record");

describe("the record of a job", () => {
  test("has the duration of each phase, once the machine is gone", async () => {
    const log = createRecorder();
    const source = createHistory();
    const stop = logEvents({ ...source, log });

    tellWholeJob(source);
    expect(records(log)).toEqual([]);
    source.add(9_700, "machine:gone", "fr-a", {});
    await stop();

    expect(records(log)).toEqual([
      {
        level: "info",
        message: "job record",
        jobId: 7,
        name: "build",
        project: "g/p",
        pool: "small",
        runner: "glrt-abcd",
        result: "success",
        machineId: "fr-a",
        host: "local",
        driver: "qemu",
        attempts: 1,
        durationMs: 8_605,
        phases: {
          pollMs: 40,
          queuedMs: 10,
          createMs: 90,
          bootMs: 2_000,
          readyMs: 500,
          handOverMs: 5,
          runMs: 6_000,
          cleanupMs: 95,
          totalMs: 8_605,
        },
      },
    ]);
  });

  test("is written once when the machine goes before GitLab acknowledges", async () => {
    const log = createRecorder();
    const source = createHistory();
    const stop = logEvents({ ...source, log });

    source.add(1_000, "job:claimed", null, claim);
    source.add(1_010, "job:starting", "fr-a", { machineId: "fr-a", attempt: 1, host: "local" });
    source.add(1_010, "machine:creating", "fr-a", { host: "local", driver: "qemu", cpus: 1, memoryMib: 512 });
    source.add(2_000, "machine:stopping", "fr-a", { reason: "killed" });
    source.add(2_010, "machine:gone", "fr-a", {});
    source.add(2_020, "job:failing", null, { reason: "killed", cause: "machine" });
    source.add(2_500, "job:finished", null, { result: "failed", reason: "killed", cause: "machine" });
    await stop();

    expect(records(log)).toMatchObject([
      {
        result: "failed",
        reason: "killed",
        cause: "machine",
        phases: { queuedMs: 10, cleanupMs: 0, totalMs: 1_500 },
      },
    ]);
  });

  test("is written once though both last events are there before either is looked at", async () => {
    const log = createRecorder();
    const source = createHistory();
    const stop = logEvents({ ...source, log });

    tellWholeJob(source);
    source.add(9_700, "machine:gone", "fr-a", {});
    await stop();

    expect(records(log)).toHaveLength(1);
  });

  test("counts every attempt, and takes the phases of the last", async () => {
    const log = createRecorder();
    const source = createHistory();
    const stop = logEvents({ ...source, log });

    source.add(0, "job:claimed", null, claim);
    source.add(10, "machine:creating", "fr-a", { host: "local", driver: "qemu", cpus: 1, memoryMib: 512 });
    source.add(10, "job:starting", "fr-a", { machineId: "fr-a", attempt: 1, host: "local" });
    source.add(60, "machine:booting", "fr-a", {});
    source.add(90, "job:retried", "fr-a", { machineId: "fr-a", reason: "crash", attempt: 1 });
    source.add(100, "machine:creating", "fr-b", { host: "local", driver: "qemu", cpus: 1, memoryMib: 512 });
    source.add(100, "job:starting", "fr-b", { machineId: "fr-b", attempt: 2, host: "local" });
    source.add(170, "machine:booting", "fr-b", {});
    source.add(180, "job:finished", null, { result: "canceled" });
    source.add(190, "machine:gone", "fr-a", {});
    expect(records(log)).toEqual([]);
    source.add(200, "machine:gone", "fr-b", {});
    await stop();

    expect(records(log)).toMatchObject([
      { attempts: 2, machineId: "fr-b", phases: { queuedMs: 100, createMs: 70, cleanupMs: 20 } },
    ]);
  });

  test("is written for a job that never had a machine", async () => {
    const log = createRecorder();
    const source = createHistory();
    const stop = logEvents({ ...source, log });

    source.add(0, "job:claimed", null, claim);
    source.add(5, "job:finished", null, { result: "failed", reason: "no machine" });
    await stop();

    expect(records(log)).toMatchObject([{ attempts: 0, reason: "no machine" }]);
    expect(records(log)[0]).not.toHaveProperty("machineId");
  });

  test("a store that cannot be read costs the record, not the program", async () => {
    const log = createRecorder();
    const source = createHistory();
    const history = () => Promise.reject(new Error("disk"));
    const stop = logEvents({ ...source, history, log });

    source.add(5, "job:finished", null, { result: "success" });
    await stop();

    expect(log.lines).toContainEqual(
      expect.objectContaining({ level: "warn", message: "job record not written" }),
    );
  });
});

test("a console's text stays out of the log", async () => {
  const log = createRecorder();
  const source = createHistory();
  const stop = logEvents({ ...source, log });

  source.add(1, "machine:console", "fr-a", { text: "what the job printed" });
  await stop();

  expect(JSON.stringify(log.lines)).not.toContain("printed");
  expect(log.lines).toMatchObject([{ level: "debug", machineId: "fr-a", jobId: 7, length: 20 }]);
});
