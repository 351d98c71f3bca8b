import { describe, expect, test } from "vitest";
import { claim, size, watchedMetrics } from "../../../test/builders/metrics.ts";
import type { JobRecord } from "../job-record.ts";

describe("what happens is counted", () => {
  test("from the claim of a job to its end, with the times of both", async () => {
    const at = await watchedMetrics();

    at.tell("job:claimed", { ...claim, queuedMs: 12_000 }, { job: 7 });
    await at.clock.advance(3_000);
    at.tell("job:running", { machineId: "fr-a" }, { job: 7 });
    await at.clock.advance(90_000);
    at.tell("job:finished", { result: "failed", reason: "killed", cause: "machine" }, { job: 7 });

    const series = await at.series();
    expect(series.get('firerunner_jobs_total{pool="small",result="failed"}')).toBe(1);
    expect(series.get('firerunner_job_failures_total{reason="machine"}')).toBe(1);
    expect(series.get('firerunner_job_failures_total{reason="script"}')).toBe(0);
    expect(series.get('firerunner_job_queue_duration_seconds_sum{pool="small"}')).toBe(12);
    expect(series.get('firerunner_job_start_duration_seconds_sum{pool="small"}')).toBe(3);
    expect(series.get('firerunner_job_duration_seconds_sum{pool="small"}')).toBe(90);
    expect(series.get('firerunner_job_duration_seconds_bucket{le="60",pool="small"}')).toBe(0);
    expect(series.get('firerunner_job_duration_seconds_bucket{le="300",pool="small"}')).toBe(1);
    const compatible =
      'gitlab_runner_failed_jobs_total{runner="small",failure_reason="runner_system_failure"}';
    expect(series.get(compatible)).toBe(1);
  });

  test("what a pool or a driver does not do is told as none from its first job on, so that the first failure is seen", async () => {
    const at = await watchedMetrics();

    at.tell("job:claimed", { ...claim, pool: "tags:a,b" }, { job: 7 });
    at.tell("machine:creating", size, { job: 7, machine: "fr-a" });

    const series = await at.series();
    expect(series.get('firerunner_jobs_total{pool="tags:a,b",result="failed"}')).toBe(0);
    const failures = 'firerunner_machine_operations_total{driver="qemu",operation="create",result="failure"}';
    expect(series.get(failures)).toBe(0);
  });

  test("a script's own failure, told without a cause, is the script's", async () => {
    const at = await watchedMetrics();

    at.tell("job:claimed", claim, { job: 7 });
    at.tell("job:finished", { result: "failed" }, { job: 7 });

    const series = await at.series();
    expect(series.get('firerunner_job_failures_total{reason="script"}')).toBe(1);
    // GitLab did not say how long it had waited, and it never had its payload.
    expect(series.has('firerunner_job_queue_duration_seconds_count{pool="small"}')).toBe(false);
    expect(series.has('firerunner_job_duration_seconds_count{pool="small"}')).toBe(false);
  });

  test("a job that began before a restart is counted once, with all of its time", async () => {
    const living = { id: 7, pool: "small", claimedAt: 900_000, runningAt: 940_000 };
    const at = await watchedMetrics({ jobs: [living] });

    at.tell("job:finished", { result: "success" }, { job: 7 });

    const series = await at.series();
    expect(series.get('firerunner_jobs_total{pool="small",result="success"}')).toBe(1);
    expect(series.get('firerunner_job_duration_seconds_sum{pool="small"}')).toBe(60);
    expect(series.has('firerunner_job_start_duration_seconds_count{pool="small"}')).toBe(false);
  });

  test("what becomes of machines, by driver", async () => {
    const machine = { id: "fr-old", driver: "flintlock", pool: "small", cpus: 1, memoryMib: 512 };
    const at = await watchedMetrics({ machines: [machine] });

    at.tell("machine:creating", size, { job: 1, machine: "fr-a" });
    at.tell("machine:create-failed", { error: "no" }, { machine: "fr-a" });
    at.tell("machine:booting", {}, { machine: "fr-a" });
    at.tell("machine:out-of-memory", { killed: 1e12 }, { machine: "fr-a" });
    at.tell("machine:destroy-failed", { error: "no" }, { machine: "fr-old" });
    at.tell("machine:gone", {}, { machine: "fr-old" });
    at.tell("machine:unknown", { host: "local" }, { machine: "fr-x" });

    const series = await at.series();
    const of = (labels: string) => series.get(`firerunner_machine_operations_total{${labels}}`);
    expect(of('driver="qemu",operation="create",result="failure"')).toBe(1);
    expect(of('driver="qemu",operation="create",result="success"')).toBe(1);
    expect(of('driver="flintlock",operation="destroy",result="failure"')).toBe(1);
    expect(of('driver="flintlock",operation="destroy",result="success"')).toBe(1);
    expect(series.get("firerunner_machines_out_of_memory_total")).toBe(1);
    // A guest says what it likes.
    expect(series.get("firerunner_guest_oom_kills_total")).toBe(1_000);
    expect(series.get("firerunner_orphan_machines_total")).toBe(1);
  });

  test("what machines use, each second once, however often it is asked and though the clock is set back", async () => {
    const at = await watchedMetrics();
    const vcpuSeconds = async () =>
      (await at.series()).get('firerunner_machine_vcpu_seconds_total{pool="small"}');

    at.tell("job:claimed", claim, { job: 1 });
    at.tell("machine:creating", size, { job: 1, machine: "fr-a" });
    await at.clock.advance(10_000);
    expect(await vcpuSeconds()).toBe(20);
    expect(await vcpuSeconds()).toBe(20);
    at.tell("machine:gone", {}, { job: 1, machine: "fr-a" });
    await at.clock.advance(60_000);
    expect(await vcpuSeconds()).toBe(20);
    const bytes = 10 * 1_024 * 1_024 ** 2;
    expect((await at.series()).get('firerunner_machine_memory_byte_seconds_total{pool="small"}')).toBe(bytes);
  });

  test("a machine's phases, from the record of its job", async () => {
    const at = await watchedMetrics();
    const phases = { createMs: 90, bootMs: 2_000, cleanupMs: 95, totalMs: 8_000 };

    at.metrics.takeRecord({ driver: "qemu", phases } as unknown as JobRecord);
    at.metrics.takeRecord({ phases: {} } as unknown as JobRecord);

    const series = await at.series();
    const of = (phase: string) =>
      series.get(`firerunner_machine_phase_duration_seconds_sum{driver="qemu",phase="${phase}"}`);
    expect([of("create"), of("boot"), of("cleanup"), of("ready")]).toEqual([0.09, 2, 0.095, undefined]);
  });

  test("GitLab's answers by status, and anything that is none of HTTP's as other", async () => {
    const at = await watchedMetrics();

    for (const status of [201, 201, 0, 299, 4_711]) at.metrics.countRequest("jobs_request", status);
    at.metrics.countRequest("../../etc/passwd", 404);
    at.metrics.countWriteError();

    const series = await at.series();
    const of = (endpoint: string, status: string) =>
      series.get(`firerunner_gitlab_requests_total{endpoint="${endpoint}",status="${status}"}`);
    expect(of("jobs_request", "201")).toBe(2);
    expect(of("jobs_request", "none")).toBe(1);
    expect(of("jobs_request", "other")).toBe(2);
    expect(of("other", "404")).toBe(1);
    expect(series.get("firerunner_store_write_errors_total")).toBe(1);
  });
});
