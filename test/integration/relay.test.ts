import { connect } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { shellFeatures, traceSummary } from "@firerunner/gitlab-stand-in/test-clients";
import { afterEach, describe, expect, test } from "vitest";
import { FireRunnerError } from "../../src/base/errors.ts";
import { runnerLogLimitKib } from "../../src/relay/config.ts";
import {
  type BenchMachine,
  createRelayBench,
  type RelayBench,
  type RelayBenchOptions,
} from "./relay-bench.ts";

let bench: RelayBench;

afterEach(async () => {
  await bench.close();
});

async function open(options: RelayBenchOptions = {}): Promise<RelayBench> {
  bench = await createRelayBench(options);
  return bench;
}

/** A machine that has its payload, in a bench of its own. */
async function running(options: RelayBenchOptions = {}): Promise<BenchMachine> {
  await open(options);
  const machine = await bench.machine();
  await machine.handOver();
  return machine;
}

function append({ guest, job, token }: BenchMachine, startBytes: number, text: string) {
  return guest.appendTrace(job.id, token, startBytes, text);
}

function update({ guest, job, token }: BenchMachine, state: string, more?: Record<string, unknown>) {
  return guest.update(job.id, token, state, more);
}

function rules(): string[] {
  return bench.gitlab.violations.map(({ rule }) => rule);
}

describe("a guest's job", () => {
  test("goes from boot to success, with our line first and sums that GitLab accepts", async () => {
    const { store } = await open();
    const machine = await bench.machine();
    const log = "hello\nfrom the job\n";
    const boot = await machine.guest.call("GET", "/firerunner/boot");
    const payload = await machine.handOver();
    const heartbeat = await update(machine, "running");
    const patch = await append(machine, 0, log);
    const end = await update(machine, "success", traceSummary(log));

    expect(boot.text).toBe(`machine=${machine.id}\n`);
    expect(payload["token"]).toBe(machine.token);
    expect([heartbeat.status, heartbeat.headers["job-status"]]).toEqual([200, "running"]);
    expect([patch.status, patch.headers["range"]]).toEqual([202, `0-${log.length}`]);
    expect(patch.headers["x-gitlab-trace-update-interval"]).toBe("3");
    expect([end.status, end.headers["job-status"]]).toEqual([200, "success"]);
    expect(machine.job.status).toBe("success");
    expect(machine.job.traceCheck?.matches).toBe(true);
    expect(machine.job.trace.text()).toMatch(
      /^\S*FireRunner: machine fr-\w+ \(1 CPU, 1 GiB, fake on local\) was ready/,
    );
    expect(machine.job.trace.text().endsWith(log)).toBe(true);
    expect(await store.job(machine.job.id)).toMatchObject({ state: "finished", result: "success" });
    expect(rules()).toEqual([]);
  });

  test("that fails ends as failed; its own script needs no reason of ours", async () => {
    const machine = await running();
    await append(machine, 0, "oops\n");
    const failed = { failure_reason: "script_failure", exit_code: 3, ...traceSummary("oops\n") };
    const end = await update(machine, "failed", failed);

    expect([end.status, end.headers["job-status"], machine.job.exitCode]).toEqual([200, "failed", 3]);
    expect(await bench.store.job(machine.job.id)).toMatchObject({ result: "failed", reason: null });
  });

  test("that the runner itself failed says why", async () => {
    const machine = await running();
    await update(machine, "failed", { failure_reason: "job_execution_timeout", ...traceSummary("") });

    expect(await bench.store.job(machine.job.id)).toMatchObject({
      cause: "time-limit",
      reason: expect.stringMatching(/^the job's time limit of .* was over, and its runner ended it$/),
    });
  });

  test("is known to have been heard of, and when", async () => {
    await open();
    const machine = await bench.machine();
    const before = bench.relay.lastHeardAt(machine.id);
    await machine.guest.call("GET", "/firerunner/boot");
    const heardAt = bench.relay.lastHeardAt(machine.id) ?? 0;
    const statusBefore = bench.relay.lastStatusAt(machine.id);
    await machine.handOver();
    await append(machine, 0, "x");

    expect([before, statusBefore]).toEqual([undefined, undefined]);
    expect(heardAt).toBeGreaterThan(0);
    expect(bench.relay.lastStatusAt(machine.id)).toBeGreaterThanOrEqual(heardAt);
    expect((await bench.store.machine(machine.id))?.heardAt).toBeGreaterThan(0);
  });

  test("that names an image is told that nothing comes of it, without its secrets", async () => {
    await open();
    const machine = await bench.machine({ image: { name: "ruby:3.4" } });
    await machine.handOver();

    await expect.poll(() => machine.job.trace.text()).toMatch(/image: ruby:3\.4.*is ignored/);
  });
});

describe("the payload", () => {
  test("is given once", async () => {
    const machine = await running();
    const again = await machine.guest.requestJob(machine.machineToken);

    expect(again.status).toBe(204);
    expect(await bench.store.job(machine.job.id)).toMatchObject({ state: "running" });
  });

  test("is given once to many who ask at one time", async () => {
    await open();
    const machine = await bench.machine();
    const answers = await Promise.all([1, 2, 3, 4].map(() => machine.guest.requestJob(machine.machineToken)));

    expect(answers.map(({ status }) => status).toSorted()).toEqual([201, 204, 204, 204]);
  });

  test("is given again after a restart of the program, to the same machine only, until its token is used", async () => {
    const machine = await running();
    await bench.restart([machine]);
    const again = await machine.guest.requestJob(machine.machineToken);
    await append(machine, 0, "x");
    await bench.restart([machine]);
    const afterUse = await machine.guest.requestJob(machine.machineToken);

    expect([again.status, again.json()["id"]]).toEqual([201, machine.job.id]);
    expect(afterUse.status).toBe(204);
  });

  test("is given again when the connection broke before it was sent", async () => {
    await open();
    const machine = await bench.machine();
    const body = JSON.stringify({ token: machine.machineToken });
    const socket = connect(machine.socketPath);
    socket.write(
      `POST /api/v4/jobs/request HTTP/1.1\r\nHost: relay\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
      () => socket.destroy(),
    );
    await expect.poll(async () => (await bench.store.job(machine.job.id))?.state).toBe("running");
    const again = await machine.guest.requestJob(machine.machineToken);

    expect([again.status, again.json()["id"]]).toEqual([201, machine.job.id]);
  });

  test("is given again to a runner that keeps asking and never used it", async () => {
    await open({ settings: { redeliverAfter: 1_500 } });
    const machine = await bench.machine();
    await machine.handOver();
    const ask = async () => (await machine.guest.requestJob(machine.machineToken)).status;

    expect(await ask()).toBe(204);
    await expect.poll(ask, { timeout: 20_000 }).toBe(201);
  });

  test("is not given to a machine whose job has ended meanwhile", async () => {
    await open();
    const machine = await bench.machine();
    await bench.store.finishJob(machine.job.id, "canceled");
    const answer = await machine.guest.requestJob(machine.machineToken);

    expect(answer.status).toBe(204);
  });

  test("does not repeat our lines when the program died between writing and handing over", async () => {
    await open();
    const machine = await bench.machine();
    const line = `FireRunner: machine ${machine.id} (…) was ready\n`;
    await bench.store.addTraceHead(machine.job.id, line);
    await machine.handOver();

    expect((await bench.store.job(machine.job.id))?.traceHead).toBe(line);
  });
});

describe("the trace", () => {
  test("answers offsets as the guest counts them", async () => {
    const machine = await running();
    await append(machine, 0, "12345");
    const gap = await append(machine, 7, "x");
    const repeated = await append(machine, 0, "12345");
    const next = await append(machine, 5, "678");

    expect([gap.status, gap.headers["range"]]).toEqual([416, "0-5"]);
    expect([repeated.status, repeated.headers["range"]]).toEqual([202, "0-5"]);
    expect([next.status, next.headers["range"]]).toEqual([202, "0-8"]);
    expect(machine.job.trace.text().endsWith("\n12345678")).toBe(true);
  });

  test("without a Content-Range, or with a wrong one, is 400", async () => {
    const machine = await running();
    const path = `/api/v4/jobs/${machine.job.id}/trace`;
    const answers = await Promise.all(
      [undefined, "x", "-1-5", "5", "1e3-2000", "99999999999999999-1"].map((range) =>
        machine.guest.call("PATCH", path, {
          headers: { "JOB-TOKEN": machine.token, ...(range ? { "Content-Range": range } : {}) },
          body: "x",
        }),
      ),
    );

    expect(answers.map(({ status }) => status)).toEqual([400, 400, 400, 400, 400, 400]);
  });

  test("takes exclusive ends, which some runners send", async () => {
    const machine = await running();
    const answer = await machine.guest.call("PATCH", `/api/v4/jobs/${machine.job.id}/trace`, {
      headers: { "JOB-TOKEN": machine.token, "Content-Range": "0-5" },
      body: "12345",
    });

    expect([answer.status, answer.headers["range"]]).toEqual([202, "0-5"]);
  });

  test("keeps its order when our own lines do not get through at first", async () => {
    await open();
    const machine = await bench.machine();
    bench.gitlab.faults.add("append-trace", { kind: "status", status: 502 });
    bench.gitlab.faults.add("append-trace", { kind: "status", status: 502 });
    await machine.handOver();
    const refused = await append(machine, 0, "hello\n");
    const taken = await append(machine, 0, "hello\n");

    expect([refused.status, taken.status]).toEqual([503, 202]);
    expect(machine.job.trace.text()).toMatch(/^\S*FireRunner: machine [^\n]*\nhello\n$/);
  });

  test("does not repeat our lines when GitLab has them and the answer was lost", async () => {
    await open();
    const machine = await bench.machine();
    bench.gitlab.faults.add("append-trace", { kind: "lose-answer" });
    await machine.handOver();
    await append(machine, 0, "hello\n");

    expect(machine.job.trace.text().match(/FireRunner/g)).toHaveLength(1);
  });

  test("goes on after a restart of the program", async () => {
    const machine = await running();
    await append(machine, 0, "one\n");
    await bench.restart([machine]);
    const patch = await append(machine, 4, "two\n");
    const end = await update(machine, "success", traceSummary("one\ntwo\n"));

    expect([patch.status, end.status, machine.job.traceCheck?.matches]).toEqual([202, 200, true]);
    expect(rules()).toEqual([]);
  });

  test("of what a runner may collect fits below the limit; a longer one ends the job as failing", async () => {
    const machine = await running({ settings: { traceLimit: 1 } });
    const most = runnerLogLimitKib({ traceLimit: 1 }) * 1024;
    const within = await append(machine, 0, "x".repeat(most + 200));
    const answer = await append(machine, 1024 * 1024, "x");

    expect([within.status, answer.status]).toEqual([202, 413]);
    expect((await bench.store.job(machine.job.id))?.state).toBe("failing");
    expect((await append(machine, 0, "x")).status).toBe(503);
  });

  test("of many small patches is paced, none is lost", async () => {
    const machine = await running({ settings: { updatesPerMinute: 120 } });
    const begin = Date.now();
    for (let i = 0; i < 13; i++) await append(machine, i, "x");

    expect(Date.now() - begin).toBeGreaterThan(1_000);
    expect(machine.job.trace.text().endsWith("\nxxxxxxxxxxxxx")).toBe(true);
  });
});

describe("GitLab in trouble", () => {
  test.each([
    [500, 502],
    [502, 502],
    [503, 503],
    [429, 503],
  ])("answering %i to a patch is %i to the guest, which then succeeds", async (given, passed) => {
    const machine = await running();
    await append(machine, 0, "a");
    bench.gitlab.faults.add("append-trace", { kind: "status", status: given, html: true });
    const refused = await append(machine, 1, "b");
    const taken = await append(machine, 1, "b");

    expect([refused.status, refused.headers["job-status"]]).toEqual([passed, undefined]);
    expect(taken.status).toBe(202);
  });

  test("asking for a pause is left in peace that long", async () => {
    const machine = await running();
    await append(machine, 0, "a");
    const headers = { "Retry-After": "60" };
    bench.gitlab.faults.add("append-trace", { kind: "status", status: 429, headers });
    const first = await append(machine, 1, "b");
    const asked = bench.gitlab.requests.length;
    const second = await append(machine, 1, "b");

    expect([first.status, first.headers["retry-after"]]).toEqual([503, "60"]);
    expect([second.status, Number(second.headers["retry-after"])]).toEqual([503, expect.closeTo(60, -1)]);
    expect(bench.gitlab.requests).toHaveLength(asked);
  });

  test("not reachable is 502, and the guest's report arrives when it is back", async () => {
    const machine = await running();
    await append(machine, 0, "a");
    await bench.gitlab.down();
    const refused = await update(machine, "success", traceSummary("a"));
    await bench.gitlab.up();
    const taken = await update(machine, "success", traceSummary("a"));

    expect([refused.status, taken.status, machine.job.status]).toEqual([502, 200, "success"]);
  });

  test("losing the answer to the final update still ends the job right", async () => {
    const machine = await running();
    await append(machine, 0, "a");
    bench.gitlab.faults.add("update-job", { kind: "lose-answer" });
    const lost = await update(machine, "success", traceSummary("a"));
    const again = await update(machine, "success", traceSummary("a"));

    expect([lost.status, again.status, again.headers["job-status"]]).toEqual([502, 403, "success"]);
    expect(await bench.store.job(machine.job.id)).toMatchObject({ state: "finished", result: "success" });
  });

  test("holding the final update is passed on, at our pace", async () => {
    const machine = await running({
      gitlab: { behaviour: { heldFinalUpdates: 1, heldIntervalSeconds: 64 } },
    });
    await append(machine, 0, "a");
    const held = await update(machine, "success", traceSummary("a"));
    const stateWhileHeld = (await bench.store.job(machine.job.id))?.state;
    const taken = await update(machine, "success", traceSummary("a"));

    expect([held.status, held.headers["x-gitlab-trace-update-interval"]]).toEqual([202, "3"]);
    expect([stateWhileHeld, taken.status]).toEqual(["running", 200]);
  });

  test("naming a shorter wait for the final update is believed", async () => {
    const machine = await running({ gitlab: { behaviour: { heldFinalUpdates: 1, heldIntervalSeconds: 1 } } });
    const held = await update(machine, "success", traceSummary(""));

    expect([held.status, held.headers["x-gitlab-trace-update-interval"]]).toEqual([202, "1"]);
  });
});

describe("a store that is full", () => {
  test("keeps a guest's report from being acknowledged, until it is written down", async () => {
    let isFull = false;
    await open({
      wrapStore: (store) => ({
        ...store,
        finishJob: async (...end) => {
          if (isFull) throw new FireRunnerError("store_full", "no space left", { retryable: true });
          return await store.finishJob(...end);
        },
      }),
    });
    const machine = await bench.machine();
    await machine.handOver();
    isFull = true;
    const refused = await update(machine, "success", traceSummary(""));
    isFull = false;
    const again = await update(machine, "success", traceSummary(""));

    expect([refused.status, again.status, again.headers["job-status"]]).toEqual([503, 403, "success"]);
    expect(await bench.store.job(machine.job.id)).toMatchObject({ state: "finished", result: "success" });
  });
});

describe("a cancel in GitLab", () => {
  test("that is immediate reaches the guest as GitLab gave it and ends the job", async () => {
    const machine = await running();
    await append(machine, 0, "a");
    bench.gitlab.jobs.cancel(machine.job);
    const answer = await append(machine, 1, "b");
    const later = await update(machine, "failed", traceSummary("ab"));

    expect([answer.status, answer.headers["job-status"]]).toEqual([403, "canceled"]);
    expect([later.status, later.headers["job-status"]]).toEqual([403, "canceled"]);
    expect(await bench.store.job(machine.job.id)).toMatchObject({ state: "finished", result: "canceled" });
  });

  test("that is graceful lets the guest finish", async () => {
    await open();
    const features = { ...shellFeatures, cancel_gracefully: true };
    const machine = await bench.machine({}, features);
    await machine.handOver();
    await append(machine, 0, "a");
    bench.gitlab.jobs.cancel(machine.job);
    const told = await append(machine, 1, "b");
    const stateWhileCanceling = (await bench.store.job(machine.job.id))?.state;
    await update(machine, "success", traceSummary("ab"));

    expect([told.status, told.headers["job-status"]]).toEqual([202, "canceling"]);
    expect(stateWhileCanceling).toBe("running");
    expect(await bench.store.job(machine.job.id)).toMatchObject({ state: "finished", result: "canceled" });
  });

  test("that is graceful is told to the machine's init, which waits for it", async () => {
    await open();
    const machine = await bench.machine();
    const waiting = machine.guest.call("GET", "/firerunner/cancel");
    const early = await Promise.race([waiting, delay(200)]);
    bench.relay.tellCanceling(machine.id);

    expect(early).toBeUndefined();
    expect((await waiting).status).toBe(200);
    expect((await machine.guest.call("GET", "/firerunner/cancel")).status).toBe(200);
  });

  test("that came before the machine was ready is heard at the first lines of ours", async () => {
    await open();
    const machine = await bench.machine();
    bench.gitlab.jobs.cancel(machine.job);
    await machine.handOver();

    await expect
      .poll(async () => await bench.store.job(machine.job.id))
      .toMatchObject({ state: "finished", result: "canceled" });
    expect((await append(machine, 0, "x")).headers["job-status"]).toBe("canceled");
  });
});

describe("a job that GitLab ended by itself", () => {
  test("is failed for us too, after a trace beyond GitLab's limit", async () => {
    const machine = await running({ gitlab: { behaviour: { maxTraceBytes: 1_000 } } });
    const answer = await append(machine, 0, "x".repeat(2_000));

    expect([answer.status, answer.headers["job-status"]]).toEqual([403, "failed"]);
    expect(await bench.store.job(machine.job.id)).toMatchObject({ state: "finished", result: "failed" });
  });
});
