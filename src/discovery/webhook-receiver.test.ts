import { beforeEach, describe, expect, test } from "vitest";
import { someDeliveries } from "../../test/builders/deliveries.ts";
import { aJobHook, aPipelineHook, hookHeaders } from "../../test/builders/hook.ts";
import { aJob } from "../../test/builders/job.ts";
import { silentLog } from "../base/log.ts";
import { createManualClock, type ManualClock } from "../base/manual-clock.ts";
import { StoreError } from "../store/errors.ts";
import type { DeliveryStore } from "../store/jobs-by-tag.ts";
import type { Job } from "../store/store.ts";
import { createWebhookReceiver, type ReceivedHook, type WebhookReceiver } from "./webhook-receiver.ts";

let clock: ManualClock;
let store: DeliveryStore & { job(id: number): Promise<Job | undefined> };
let news: ReceivedHook[];
let ended: number[];
let warnings: object[];
let receiver: WebhookReceiver<string>;

beforeEach(() => {
  clock = createManualClock();
  store = { ...someDeliveries(clock), job: async () => undefined };
  news = [];
  ended = [];
  warnings = [];
  receiver = createWebhookReceiver({
    verifier: { screen: () => "screened" },
    store: {
      keepDeliveries: (rows) => store.keepDeliveries(rows),
      job: (id) => store.job(id),
    },
    clock,
    log: { ...silentLog, warn: (fields) => warnings.push(fields) },
    onHook: (each) => news.push(each),
    onJobEnded: (id) => ended.push(id),
  });
});

const send = (headers: Record<string, string>, body: unknown) =>
  receiver.take({
    headers,
    body:
      body === undefined ? undefined : Buffer.from(typeof body === "string" ? body : JSON.stringify(body)),
  });

describe("an authentic delivery", () => {
  test("is durable before it is told of, and answered in words", async () => {
    const order: string[] = [];
    const keep = store.keepDeliveries;
    store.keepDeliveries = async (rows) => {
      order.push(`kept ${rows.map(({ key }) => key)}, news ${news.length}`);
      return await keep(rows);
    };

    expect(await send(hookHeaders("Job Hook", "d1"), aJobHook({ jobId: 12 }))).toBe(
      "taken: job 12 of project 7 pending",
    );
    expect(order).toEqual(["kept d1, news 0"]);
    expect(news).toEqual([{ projectId: 7, jobId: 12, status: "pending" }]);
  });

  test("of a pipeline tells of its project", async () => {
    await send(hookHeaders("Pipeline Hook", "d1"), aPipelineHook({ status: "running" }));

    expect(news).toEqual([{ projectId: 7, jobId: null, status: "running" }]);
  });

  test("that comes twice is told of once", async () => {
    const both = [1, 2].map(() => send(hookHeaders("Job Hook", "d1"), aJobHook()));

    expect(await Promise.all(both)).toEqual(["taken: job 4711 of project 7 pending", "known already"]);
    expect(await send(hookHeaders("Job Hook", "d1"), aJobHook())).toBe("known already");
    expect(news).toHaveLength(1);
    expect(receiver.status()).toMatchObject({ taken: { "Job Hook": 3 }, duplicates: 2, lastAt: clock.now() });
  });

  test("is refused when the store fails, and told of to nobody", async () => {
    store.keepDeliveries = async () => {
      throw new Error("the disk is full");
    };

    await expect(send(hookHeaders("Job Hook", "d1"), aJobHook())).rejects.toThrow("the disk is full");
    expect(news).toEqual([]);
  });

  test("waits for a store that is busy or full, and is taken once when that has passed", async () => {
    const keep = store.keepDeliveries;
    let refusals = 3;
    store.keepDeliveries = async (rows) => {
      if (refusals-- > 0) throw new StoreError("store_full", "the disk is full", { retryable: true });
      return await keep(rows);
    };

    const answer = send(hookHeaders("Job Hook", "d1"), aJobHook({ jobId: 12 }));
    await clock.advance(1_000);

    expect(await answer).toBe("taken: job 12 of project 7 pending");
    expect(news).toHaveLength(1);
    expect(await store.deliveries()).toHaveLength(1);
  });

  test("is refused before GitLab gives up when the store stays full", async () => {
    let tries = 0;
    store.keepDeliveries = async () => {
      tries++;
      throw new StoreError("store_full", "the disk is full", { retryable: true });
    };
    const began = clock.now();
    const refusedAt = send(hookHeaders("Job Hook", "d1"), aJobHook()).catch(() => clock.now());

    await clock.advance(60_000);

    expect(Number(await refusedAt) - began).toBeGreaterThan(5_000);
    expect(Number(await refusedAt) - began).toBeLessThan(9_000);
    expect(tries).toBeLessThan(20);
    expect(news).toEqual([]);
  });

  test.each([
    [{ "idempotency-key": "d2", "x-gitlab-event-uuid": "e" }, "d2"],
    [{ "webhook-id": "", "idempotency-key": "d2" }, "d2"],
    [{ "x-gitlab-event-uuid": "e" }, "e job 4711 of project 7 pending"],
    [{ "webhook-id": "d1\nhello" }, expect.stringMatching(/^sha256:[0-9a-f]{64}$/)],
    [{ "webhook-id": "d".repeat(9_999) }, expect.stringMatching(/^sha256:[0-9a-f]{64}$/)],
    [{}, expect.stringMatching(/^sha256:[0-9a-f]{64}$/)],
  ])("with the headers %j is known by a key of its own", async (headers, key) => {
    await send({ "x-gitlab-event": "Job Hook", ...(headers as Record<string, string>) }, aJobHook());

    expect(await store.deliveries()).toMatchObject([{ key, event: "Job Hook", jobId: 4711 }]);
  });
});

describe("a delivery that is not of use", () => {
  test("is counted when it is another event, and not kept", async () => {
    expect(await send(hookHeaders("Push Hook", "d1"), { object_kind: "push" })).toBe(
      "Push Hook is not used here",
    );
    expect(await store.deliveries()).toEqual([]);
    expect(receiver.status().taken).toEqual({ "Push Hook": 1 });
  });

  test("cannot fill the memory with names of events", async () => {
    for (let index = 0; index < 200; index++) await send({ "x-gitlab-event": `${index}` }, "");

    expect(Object.keys(receiver.status().taken).length).toBeLessThan(60);
  });

  test.each([["{"], [undefined]])("such as the body %j makes every project suspect", async (body) => {
    expect(await send(hookHeaders("Job Hook", "d1"), body)).toMatch(/^taken, but not understood: its body/);
    expect(news).toEqual([{ projectId: null, jobId: null, status: null }]);
  });

  test("makes only its own project suspect when that can be read", async () => {
    await send(hookHeaders("Job Hook", "d1"), { ...aJobHook(), build_id: "4711" });

    expect(news).toEqual([{ projectId: 7, jobId: null, status: null }]);
  });

  test("is told of in the log now and then, not a thousand times", async () => {
    for (let index = 0; index < 1_000; index++) await send(hookHeaders("Job Hook", `d${index}`), "{");
    await clock.advance(10_000);
    await send(hookHeaders("Job Hook", "last"), "{");

    expect(warnings).toHaveLength(3);
    expect(warnings[1]).toEqual({ count: 999, kinds: { unreadable: 999 } });
    expect(warnings[2]).toMatchObject({ problem: "its body is not JSON" });
    expect(receiver.status().unreadable).toBe(1_001);
  });
});

describe("the end of a job", () => {
  test.each([
    ["canceled", [12]],
    ["failed", []],
    ["success", []],
  ])(
    "%s is told of when the job is ours and goes on here, unless GitLab has just heard it from us",
    async (status, told) => {
      store.job = async (id) => aJob({ id, state: "running" });
      await send(hookHeaders("Job Hook", "d1"), aJobHook({ jobId: 12, status }));
      await clock.advance(0);

      expect(ended).toEqual(told);
    },
  );

  test("is not told of when the job is not ours, has ended, or has not", async () => {
    await send(hookHeaders("Job Hook", "d1"), aJobHook({ jobId: 12, status: "canceled" }));
    store.job = async (id) => aJob({ id, state: "finished" });
    await send(hookHeaders("Job Hook", "d2"), aJobHook({ jobId: 13, status: "canceled" }));
    store.job = async (id) => aJob({ id, state: "running" });
    await send(hookHeaders("Job Hook", "d3"), aJobHook({ jobId: 14, status: "running" }));
    await clock.advance(0);

    expect(ended).toEqual([]);
  });

  test("does not harm the answer when the job cannot be looked up", async () => {
    store.job = async () => {
      throw new Error("the disk is full");
    };

    expect(await send(hookHeaders("Job Hook", "d1"), aJobHook({ status: "canceled" }))).toMatch(/^taken/);
  });
});
