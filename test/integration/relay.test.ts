import { afterEach, describe, expect, test } from "vitest";
import { traceSummary } from "../../src/demo/gitlab/runner-double.ts";
import { createRelayBench, type RelayBench, type RelayBenchOptions } from "./relay-bench.ts";

let bench: RelayBench;

afterEach(async () => {
  await bench.close();
});

async function open(options: RelayBenchOptions = {}): Promise<RelayBench> {
  bench = await createRelayBench(options);
  return bench;
}

describe("a guest's job", () => {
  test("goes from boot to success through the relay, with our line first and sums that GitLab accepts", async () => {
    const { gitlab, store } = await open();
    const machine = await bench.machine();
    const log = "hello\nfrom the job\n";
    const boot = await machine.guest.call("GET", "/firerunner/boot");
    const payload = await machine.handOver();
    const heartbeat = await machine.guest.update(machine.job.id, machine.token, "running");
    const patch = await machine.guest.appendTrace(machine.job.id, machine.token, 0, log);
    const end = await machine.guest.update(machine.job.id, machine.token, "success", traceSummary(log));

    expect(boot.text).toBe(`machine=${machine.id}\n`);
    expect(payload["token"]).toBe(machine.token);
    expect([heartbeat.status, heartbeat.headers["job-status"]]).toEqual([200, "running"]);
    expect([patch.status, patch.headers["range"]]).toEqual([202, `0-${log.length}`]);
    expect(patch.headers["x-gitlab-trace-update-interval"]).toBe("3");
    expect([end.status, end.headers["job-status"]]).toEqual([200, "success"]);
    expect(machine.job.status).toBe("success");
    expect(machine.job.traceCheck?.matches).toBe(true);
    expect(machine.job.trace.text()).toMatch(
      /FireRunner: machine fr-\w+ \(1 CPU, 1 GiB, fake on local\) was ready/,
    );
    expect(machine.job.trace.text().endsWith(log)).toBe(true);
    expect(await store.job(machine.job.id)).toMatchObject({ state: "finished", result: "success" });
    expect(gitlab.violations).toEqual([]);
  });
});
