import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { aClaim } from "../../test/builders/job.ts";
import { aSchedulerFixture, type SchedulerFixture } from "../../test/harness/scheduler.ts";
import type { JobUpdate } from "../gitlab/runner-api.ts";

let fixture: SchedulerFixture;
let clock: SchedulerFixture["clock"];
let store: SchedulerFixture["store"];
let host: SchedulerFixture["host"];
let gitlab: SchedulerFixture["gitlab"];
let relay: SchedulerFixture["relay"];
let start: SchedulerFixture["start"];
let aRunningJob: SchedulerFixture["aRunningJob"];

beforeEach(async () => {
  fixture = await aSchedulerFixture();
  ({ clock, store, host, gitlab, relay, start, aRunningJob } = fixture);
});

afterEach(async () => {
  await fixture[Symbol.asyncDispose]();
});

describe("a cancel", () => {
  test("is noticed though the guest is silent, and its machine is gone within 12 s", async () => {
    start();
    await aRunningJob();

    gitlab.answer = () => ({ kind: "over", status: "canceled" });
    await clock.advance(12_000);

    expect(await store.job(4711)).toMatchObject({
      state: "finished",
      result: "canceled",
      reason: "canceled in GitLab",
    });
    expect(host.ids()).toEqual([]);
    expect(gitlab.updates.length).toBeLessThan(5);
  });

  test("that a webhook tells of frees the machine at once, though GitLab has just said that it runs", async () => {
    const scheduler = start();
    await aRunningJob();
    await clock.advance(2_500);
    const asked = gitlab.updates.length;

    gitlab.answer = () => ({ kind: "over", status: "canceled" });
    scheduler.recheck(4711);
    await clock.advance(100);

    expect(gitlab.updates).toHaveLength(asked + 1);
    expect(await store.job(4711)).toMatchObject({ state: "finished", result: "canceled" });
    expect(host.ids()).toEqual([]);
  });

  test("that was told of by mistake does no harm, and asks GitLab but once a second", async () => {
    const scheduler = start();
    const machineId = await aRunningJob();
    await clock.advance(2_500);
    const asked = gitlab.updates.length;

    for (let time = 0; time < 1_000; time += 10) {
      scheduler.recheck(4711);
      scheduler.recheck(9999);
      await clock.advance(10);
    }

    expect(
      gitlab.updates.slice(asked).every(({ jobId, state }) => jobId === 4711 && state === "running"),
    ).toBe(true);
    expect(gitlab.updates.length - asked).toBeLessThanOrEqual(3);
    expect((await store.job(4711))?.state).toBe("running");
    expect(host.ids()).toEqual([machineId]);
  });

  test("that is told of while GitLab is being asked is asked about once more", async () => {
    const scheduler = start();
    await aRunningJob();
    const answers: Array<() => void> = [];
    const { api } = gitlab;
    const updateJob = api.updateJob;
    Object.assign(api, {
      updateJob: async (update: JobUpdate) => {
        const answer = await updateJob(update);
        await new Promise<void>((resolve) => answers.push(resolve));
        return answer;
      },
    });
    await clock.advance(10_500);
    expect(answers).toHaveLength(1);

    gitlab.answer = () => ({ kind: "over", status: "canceled" });
    scheduler.recheck(4711);
    await clock.advance(10);
    answers.shift()?.();
    await clock.advance(100);
    expect((await store.job(4711))?.state).toBe("running");
    answers.shift()?.();
    await clock.advance(100);

    expect(await store.job(4711)).toMatchObject({ state: "finished", result: "canceled" });
  });

  test("that waits for an after_script ends a job at once that has not begun", async () => {
    host.faults.create = () => ({ hang: true });
    start();
    await store.claim(aClaim());

    gitlab.answer = ({ state }) => ({
      kind: "accepted",
      status: state === "failed" ? "canceled" : "canceling",
    });
    await clock.advance(11_000);

    expect(await store.job(4711)).toMatchObject({ state: "finished", result: "canceled" });
    expect(host.ids()).toEqual([]);
  });

  test("is left to the guest when it runs its after_script, and the guest is hurried", async () => {
    start();
    const machineId = await aRunningJob();

    gitlab.answer = () => ({ kind: "accepted", status: "canceling" });
    await clock.advance(12_000);

    expect((await store.job(4711))?.state).toBe("running");
    expect(gitlab.updates.every(({ state }) => state === "running")).toBe(true);
    expect(new Set(relay.hurried)).toEqual(new Set([machineId]));
  });
});
