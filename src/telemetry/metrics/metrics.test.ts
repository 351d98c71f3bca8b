import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { createListeners } from "../../base/listeners.ts";
import { silentLog } from "../../base/log.ts";
import { createManualClock } from "../../base/manual-clock.ts";
import type { EventDetails, EventKind, LifecycleEvent } from "../../domain/events.ts";
import type { Figures } from "../../views/figures.ts";
import type { JobRecord } from "../job-record.ts";
import type { LivingJob, LivingMachine } from "./events.ts";
import { createMetrics, type Metrics } from "./metrics.ts";
import type { MetricsReads } from "./ports.ts";

const open: Metrics[] = [];
afterEach(() => {
  for (const metrics of open.splice(0)) metrics.close();
});

interface Begun {
  readonly jobs?: readonly LivingJob[];
  readonly machines?: readonly LivingMachine[];
}

/** Metrics of a store that says what the test says. */
async function watched({ jobs = [], machines = [] }: Begun = {}) {
  const clock = createManualClock(1_000_000);
  const problems: object[] = [];
  const log = { ...silentLog, warn: (fields: object) => void problems.push(fields) };
  const metrics = createMetrics({ withCompatible: true, clock, log });
  open.push(metrics);
  const listeners = createListeners<LifecycleEvent>();
  await metrics.watch({
    jobs: async () => jobs,
    machines: async () =>
      machines.map(({ cpus, memoryMib, ...rest }) => ({ ...rest, size: { cpus, memoryMib } })),
    onEvent: listeners.add,
  });
  let seq = 0;
  function tell<Kind extends EventKind>(
    kind: Kind,
    detail: EventDetails[Kind],
    about: { job?: number; machine?: string } = {},
  ): void {
    const { job: jobId = null, machine: machineId = null } = about;
    listeners.emit({
      seq: ++seq,
      at: clock.now(),
      kind,
      jobId,
      machineId,
      detail,
    } as unknown as LifecycleEvent);
  }
  return { clock, metrics, problems, tell, series: () => seriesOf(metrics) };
}

type Watched = Awaited<ReturnType<typeof watched>>;

async function seriesOf(metrics: Metrics): Promise<Map<string, number>> {
  const { text } = await metrics.scrape("prometheus");
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ")))]),
  );
}

const claim = { pool: "small", runner: "glrt-abcd", name: "build", project: "g/p", pollMs: 40 };
const size = { host: "local", driver: "qemu", cpus: 2, memoryMib: 1_024 };

/** One whole job in a machine of its own, ten seconds of work. */
async function runJob(at: Watched, job: number, pool: string, project = "g/p"): Promise<void> {
  const machine = `fr-${job}`;
  at.tell("job:claimed", { ...claim, pool, project, queuedMs: 2_000 }, { job });
  at.tell("job:starting", { machineId: machine, attempt: 1, host: "local" }, { job, machine });
  at.tell("machine:creating", size, { job, machine });
  at.tell("machine:booting", {}, { job, machine });
  at.tell("job:running", { machineId: machine }, { job, machine });
  at.tell("job:finished", { result: "success" }, { job, machine });
  at.tell("machine:gone", {}, { job, machine });
}

describe("what happens is counted", () => {
  test("from the claim of a job to its end, with the times of both", async () => {
    const at = await watched();

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
    const at = await watched();

    at.tell("job:claimed", { ...claim, pool: "tags:a,b" }, { job: 7 });
    at.tell("machine:creating", size, { job: 7, machine: "fr-a" });

    const series = await at.series();
    expect(series.get('firerunner_jobs_total{pool="tags:a,b",result="failed"}')).toBe(0);
    const failures = 'firerunner_machine_operations_total{driver="qemu",operation="create",result="failure"}';
    expect(series.get(failures)).toBe(0);
  });

  test("a script's own failure, told without a cause, is the script's", async () => {
    const at = await watched();

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
    const at = await watched({ jobs: [living] });

    at.tell("job:finished", { result: "success" }, { job: 7 });

    const series = await at.series();
    expect(series.get('firerunner_jobs_total{pool="small",result="success"}')).toBe(1);
    expect(series.get('firerunner_job_duration_seconds_sum{pool="small"}')).toBe(60);
    expect(series.has('firerunner_job_start_duration_seconds_count{pool="small"}')).toBe(false);
  });

  test("what becomes of machines, by driver", async () => {
    const machine = { id: "fr-old", driver: "flintlock", pool: "small", cpus: 1, memoryMib: 512 };
    const at = await watched({ machines: [machine] });

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
    const at = await watched();
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
    const at = await watched();
    const phases = { createMs: 90, bootMs: 2_000, cleanupMs: 95, totalMs: 8_000 };

    at.metrics.takeRecord({ driver: "qemu", phases } as unknown as JobRecord);
    at.metrics.takeRecord({ phases: {} } as unknown as JobRecord);

    const series = await at.series();
    const of = (phase: string) =>
      series.get(`firerunner_machine_phase_duration_seconds_sum{driver="qemu",phase="${phase}"}`);
    expect([of("create"), of("boot"), of("cleanup"), of("ready")]).toEqual([0.09, 2, 0.095, undefined]);
  });

  test("GitLab's answers by status, and anything that is none of HTTP's as other", async () => {
    const at = await watched();

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

describe("the number of series", () => {
  test("is the same after 10,000 jobs of 300 projects as after 300", async () => {
    const at = await watched();
    const pools = Array.from({ length: 20 }, (_, index) => `tags:firecracker-${index}cpu-4gb`);
    const run = async (from: number, to: number) => {
      for (let job = from; job < to; job++) await runJob(at, job, pools[job % 20] ?? "", `g/p${job % 300}`);
    };

    await run(0, 300);
    const before = [...(await at.series()).keys()];
    await run(300, 10_000);

    const series = await at.series();
    expect([...series.keys()]).toEqual(before);
    expect(series.get(`firerunner_jobs_total{pool="${pools[3]}",result="success"}`)).toBe(500);
  });

  test("has a bound though every job brings tags of its own, or a runner of its own", async () => {
    const at = await watched();

    for (let job = 0; job < 1_000; job++) await runJob(at, job, `tags:t${job}`);
    const before = [...(await at.series()).keys()];
    for (let job = 1_000; job < 3_000; job++) {
      await runJob(at, job, job % 2 ? `tags:t${job}` : `tags:${"x".repeat(job)}`);
    }

    const series = await at.series();
    expect([...series.keys()]).toEqual(before);
    const of = (pool: string) => series.get(`firerunner_jobs_total{pool="${pool}",result="success"}`);
    expect([of("tags:t0"), of("tags:*")]).toEqual([1, 2_936]);
    // Those of the configuration have places of their own.
    await runJob(at, 1, "small");
    expect((await at.series()).get('firerunner_jobs_total{pool="small",result="success"}')).toBe(1);
  });

  test("of all jobs with runners of their own is that of one pool", async () => {
    const at = await watched();

    for (let job = 0; job < 100; job++) await runJob(at, job, `job:${job}`);

    expect((await at.series()).get('firerunner_jobs_total{pool="job:*",result="success"}')).toBe(100);
  });

  test("and their form withstands whatever tags hold", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.string({ unit: "binary", maxLength: 40 }), { maxLength: 5 }),
        async (tags) => {
          const at = await watched();
          for (const [job, tag] of tags.entries()) await runJob(at, job, `tags:${tag}`);
          for (const format of ["prometheus", "openmetrics"] as const) {
            const { text } = await at.metrics.scrape(format);
            const series = /^[a-z_]+(\{[a-z_]+="([^"\\\n]|\\.)*"(,[a-z_]+="([^"\\\n]|\\.)*")*\})? \S+$/u;
            const bad = text.split("\n").filter((line) => !/^(#.*)?$/.test(line) && !series.test(line));
            expect(bad).toEqual([]);
          }
          for (const each of open.splice(0)) each.close();
        },
      ),
      { numRuns: 20 },
    );
  });
});

const figures: Figures = {
  isReady: true,
  isDraining: false,
  gitLabAnswers: true,
  jobs: new Map([["running", 2]]),
  jobsByPool: new Map([["running", new Map([["small", 2]])]]),
  waiting: new Map([["capacity", 3]]),
  oldestWaitingSince: 940_000,
  unservable: new Map(),
  pools: [{ pool: "small", isReady: false }],
  hosts: [
    {
      key: "qemu",
      isUp: true,
      isDrained: false,
      taken: { cpus: 4, memoryMib: 2_048, diskMib: 10, machines: 2 },
      capacity: { cpus: 8, memoryMib: 4_096, diskMib: undefined, machines: 10 },
    },
  ],
  failingTasks: 1,
};

function readsWith(changes: Partial<MetricsReads> = {}): MetricsReads {
  return {
    version: "1.2.3",
    figures: async () => figures,
    machines: async () => [{ driver: "qemu", state: "busy" }],
    drivers: () => ["qemu"],
    configuredPools: () => ["small"],
    webhooks: async () => undefined,
    relay: () => ({ machines: 1, heldBytes: 64 }),
    caches: async () => ({ images: undefined, jobs: { usedBytes: 5, evictableBytes: 4 } }),
    stateDisk: async () => ({ freeBytes: 7, sizeBytes: 9 }),
    certificates: () => ({ metrics: 2_000_000 }),
    ...changes,
  };
}

describe("a scrape", () => {
  test("says what is now, and what is not known is missing", async () => {
    const at = await watched();
    at.metrics.serve(readsWith());

    const series = await at.series();
    expect(series.get('firerunner_jobs{state="running"}')).toBe(2);
    expect(series.get('firerunner_jobs{state="claimed"}')).toBe(0);
    expect(series.get('firerunner_jobs_waiting{cause="capacity"}')).toBe(3);
    expect(series.get("firerunner_oldest_waiting_job_seconds")).toBe(60);
    expect(series.get('firerunner_pool_ready{pool="small"}')).toBe(0);
    expect(series.get('firerunner_capacity_memory_bytes{host="qemu"}')).toBe(4_096 * 1_024 ** 2);
    expect(series.has('firerunner_capacity_disk_bytes{host="qemu"}')).toBe(false);
    expect(series.get('firerunner_machines{driver="qemu",state="busy"}')).toBe(1);
    expect(series.get('firerunner_tls_expiry_timestamp_seconds{listener="metrics"}')).toBe(2_000);
    expect(series.has("firerunner_image_cache_used_bytes")).toBe(false);
    expect(series.has("firerunner_gitlab_rate_limit_remaining")).toBe(false);
    // The first job of a pool is one more than none.
    expect(series.get('firerunner_jobs_total{pool="small",result="failed"}')).toBe(0);
    expect(series.get("gitlab_runner_concurrent")).toBe(10);
    expect(series.get("firerunner_relay_held_bytes")).toBe(64);
  });

  test("does not know of a host any more that is gone", async () => {
    const at = await watched();
    let now = figures;
    at.metrics.serve(readsWith({ figures: async () => now }));
    expect((await at.series()).has('firerunner_host_up{host="qemu"}')).toBe(true);
    now = { ...figures, hosts: [] };

    expect((await at.series()).has('firerunner_host_up{host="qemu"}')).toBe(false);
  });

  test("is had without the source that fails or hangs, which is not asked again meanwhile, and adds nothing later", async () => {
    const at = await watched();
    let asked = 0;
    const hanging = Promise.withResolvers<Figures>();
    at.metrics.serve(
      readsWith({
        figures() {
          asked += 1;
          return hanging.promise;
        },
        stateDisk: () => Promise.reject(new Error("no such disk")),
      }),
    );

    const first = at.series();
    for (let step = 0; step < 20; step++) await at.clock.advance(500);
    expect((await first).get('firerunner_machines{driver="qemu",state="busy"}')).toBe(1);
    expect((await first).has("firerunner_ready")).toBe(false);
    const second = await at.series();
    expect(asked).toBe(1);
    hanging.resolve(figures);
    await hanging.promise;
    expect(second.has("firerunner_ready")).toBe(false);
    expect((await at.series()).get('firerunner_jobs{state="running"}')).toBe(2);
    // On a busy computer files of the kernel may be late as well, by this clock.
    const told = at.problems.filter((each) => !/process|computer/.test(JSON.stringify(each)));
    expect(told).toEqual([
      { source: "stateDisk", problem: "no such disk" },
      { source: "figures", problem: expect.stringContaining("not answered") },
    ]);
  });

  test("is made once for all who ask meanwhile, and in each form by itself", async () => {
    const at = await watched();
    let asked = 0;
    at.metrics.serve(
      readsWith({
        async figures() {
          asked += 1;
          return figures;
        },
      }),
    );

    const plain = [at.metrics.scrape("prometheus"), at.metrics.scrape("prometheus")];
    const open = at.metrics.scrape("openmetrics");
    const [one, other] = await Promise.all(plain);

    expect(one).toBe(other);
    expect((await open).text).toContain("# TYPE firerunner_job_retries counter");
    // A counter whose name would be that of a gauge.
    expect((await open).text).toContain("# TYPE firerunner_jobs_total unknown");
    expect(asked).toBe(2);
  });
});
