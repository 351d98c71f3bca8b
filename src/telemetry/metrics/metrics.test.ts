import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { runJob, watchedMetrics } from "../../../test/builders/metrics.ts";
import type { Figures } from "../../views/figures.ts";
import type { MetricsReads } from "./ports.ts";

describe("the number of series", () => {
  test("is the same after 10,000 jobs of 300 projects as after 300", async () => {
    const at = await watchedMetrics();
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
    const at = await watchedMetrics();

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
    const at = await watchedMetrics();

    for (let job = 0; job < 100; job++) await runJob(at, job, `job:${job}`);

    expect((await at.series()).get('firerunner_jobs_total{pool="job:*",result="success"}')).toBe(100);
  });

  test("and their form withstands whatever tags hold", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.string({ unit: "binary", maxLength: 40 }), { maxLength: 5 }),
        async (tags) => {
          const at = await watchedMetrics();
          for (const [job, tag] of tags.entries()) await runJob(at, job, `tags:${tag}`);
          for (const format of ["prometheus", "openmetrics"] as const) {
            const { text } = await at.metrics.scrape(format);
            const series = /^[a-z_]+(\{[a-z_]+="([^"\\\n]|\\.)*"(,[a-z_]+="([^"\\\n]|\\.)*")*\})? \S+$/u;
            const bad = text.split("\n").filter((line) => !/^(#.*)?$/.test(line) && !series.test(line));
            expect(bad).toEqual([]);
          }
          at.metrics.close();
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
    const at = await watchedMetrics();
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
    const at = await watchedMetrics();
    let now = figures;
    at.metrics.serve(readsWith({ figures: async () => now }));
    expect((await at.series()).has('firerunner_host_up{host="qemu"}')).toBe(true);
    now = { ...figures, hosts: [] };

    expect((await at.series()).has('firerunner_host_up{host="qemu"}')).toBe(false);
  });

  test("is had without the source that fails or hangs, which is not asked again meanwhile, and adds nothing later", async () => {
    const at = await watchedMetrics();
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
    const at = await watchedMetrics();
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
