import { describe, expect, test } from "vitest";
import { isKept } from "../core/figure.ts";
import { summarizeUploads } from "./artifacts.ts";
import { summarizeBoots } from "./boot.ts";
import { summarizeCaches } from "./cache.ts";
import { summarizeCancels } from "./cancel.ts";
import { summarizeClaims } from "./claim.ts";
import { summarizeDensity } from "./density.ts";
import { summarizeFleetIdle } from "./fleet-idle.ts";
import { summarizeImagePulls } from "./image-pull.ts";
import { summarizeImageStarts } from "./image-start.ts";
import { summarizeLoad } from "./load.ts";
import { summarizeMetrics } from "./metrics.ts";
import { summarizePlacement } from "./placement.ts";
import { summarizeLatencies } from "./relay.ts";
import { summarizeRestarts } from "./restart.ts";
import { summarizeStarts } from "./start.ts";
import { summarizeWebhooks } from "./webhook.ts";

const second = { cpuPercent: 5, rssMib: 120, heldMib: 0, loopDelayP99Ms: 2 };
const course = {
  processMs: 300,
  heardMs: 5_000,
  handedOverMs: 8_000,
  scriptMs: 9_000,
  finishedMs: 9_500,
  goneMs: 9_600,
};

describe("the figures' summaries", () => {
  test("claiming is judged idle and busy, by the median", () => {
    const slow = { oursMs: [20, 80, 90], referenceMs: [1_000] };
    const [idle, busy] = summarizeClaims({ oursMs: [5, 6, 500], referenceMs: [600] }, slow);

    expect(idle).toMatchObject({ ratio: 0.01, beside: { measured: { median: 600 } } });
    expect([idle, busy].map((row) => row && isKept(row))).toEqual([true, false]);
  });

  test("what the relay adds is the median within pairs, not the difference of medians", () => {
    const row = summarizeLatencies({ name: "PATCH", relayMs: [3, 13, 8], directMs: [1, 10, 1] });

    expect(row.difference).toBe(3);
    expect(isKept(row)).toBe(true);
  });

  test("metrics are judged by a usual scrape, and by what counting takes at the most jobs of a second", () => {
    const turns = [
      { cpuMsPerJob: 30, jobsPerSecond: 20 },
      { cpuMsPerJob: 32, jobsPerSecond: 40 },
    ];
    const rows = summarizeMetrics({
      ...{ manyMachinesMs: [60, 70], noMachineMs: [5], scrapeCpuMs: 30, countingMs: [0.05, 0.1] },
      ...{ withMetrics: turns, without: turns },
    });

    // 0.1 ms of 40 jobs and 2 ms of a scrape in a second.
    expect(rows.at(-1)?.measured.max).toBeCloseTo(0.6);
    expect(rows.map(isKept)).toEqual([false, undefined, undefined, true]);
  });

  test("a plan is judged by its median and by its slowest", () => {
    const rows = summarizePlacement({ full: [...new Array(99).fill(20), 4_000], empty: [2] });

    expect(rows[0]).toMatchObject({ ratio: 10 });
    expect(rows.map(isKept)).toEqual([true, false]);
  });

  test("a start in an image is judged by what it takes more than the shell, and by its share of what Docker takes", () => {
    const rows = [
      summarizeImageStarts([900, 1_000, 1_100], [200, 300, 400]),
      ...summarizeImagePulls([{ firstMs: 60_000, writtenMib: 4.7 }], [{ firstMs: 100_000, writtenMib: 440 }]),
    ];

    expect(rows.map(({ difference }) => difference)).toEqual([700, -40_000, -435.3]);
    expect(rows.map(isKept)).toEqual([true, false, true]);
  });

  test("a fleet at rest is judged by what it takes, not by what it takes more than none", () => {
    const [cpu, memory] = summarizeFleetIdle({ full: [{ ...second, cpuPercent: 11 }], idle: [second] });

    expect(cpu).toMatchObject({ ratio: 2.2 });
    expect([cpu, memory].map((row) => row && isKept(row))).toEqual([false, undefined]);
  });

  test("what a job costs is the CPU of the churn by the jobs of the same time", () => {
    const samples = (cpuPercent: number) => ({ manager: [{ ...second, cpuPercent }], bystander: [second] });
    const claims = { claimsPerSecond: [10, 30] };
    const rows = summarizeLoad({ idle: samples(1), running: samples(5), churning: samples(40), ...claims });

    expect(rows.find(({ what }) => what.includes("for each job"))?.measured.median).toBe(20);
  });

  test("uploads are judged by the share of the direct rate", () => {
    expect(isKept(summarizeUploads({ relay: [60], direct: [100] }))).toBe(true);
    expect(isKept(summarizeUploads({ relay: [59], direct: [100] }))).toBe(false);
  });

  test("every single cancel has to be in time", () => {
    const [printing, silent] = summarizeCancels({ printing: [900, 6_100], silent: [900, 14_900] });

    expect([printing, silent].map((row) => row && isKept(row))).toEqual([false, true]);
  });

  test("the share of FireRunner is the difference from a boot by hand", () => {
    const [share, ...phases] = summarizeStarts([course, course], [8_800, 8_800]);

    expect(share).toMatchObject({ difference: 200 });
    expect(share && isKept(share)).toBe(true);
    expect(phases.map(({ measured }) => measured.median)).toEqual([300, 5_000, 8_000, 9_500, 9_600]);
  });

  test("a boot is judged by its ratio to the bare one", () => {
    expect(isKept(summarizeBoots([3_000], [2_000]))).toBe(true);
    expect(isKept(summarizeBoots([3_100], [2_000]))).toBe(false);
  });

  test("memory under load has to stay below the bound at all times", () => {
    const heavy = { ...second, rssMib: 251, heldMib: 0 };
    const rows = summarizeLoad({
      idle: { manager: [second], bystander: [second] },
      running: { manager: [second, second], bystander: [second] },
      churning: { manager: [second, heavy], bystander: [second] },
      claimsPerSecond: [30, 34],
    });

    expect(rows[0]).toMatchObject({ measured: { median: 32 } });
    expect(rows.filter((row) => isKept(row) === false).map(({ what }) => what)).toEqual([
      "memory of the manager, jobs coming and going",
    ]);
  });

  test("starts are set against those with an empty store", () => {
    const start = { firstRoundMs: 1_000, ownMs: 100, allAdoptedMs: 1_200 };
    const rows = summarizeRestarts({ full: [start], empty: [{ ...start, ownMs: 50 }] });

    expect(rows.map(({ ratio }) => ratio)).toEqual([1, 2, 1]);
  });

  test("webhooks are judged by the 99th percentile of a turn, and by every single one that is lost", () => {
    const turn = (slowest: number) => ({
      latenciesMs: [...new Array(98).fill(5), slowest, slowest],
      cpuPercent: 60,
    });
    const bare = [{ latenciesMs: [1], cpuPercent: 20 }];
    const crash = { answered: 9_000, missing: 0, withoutNews: 1, dueProjects: 3 };
    const judge = (slowest: number) => {
      const ours = [turn(slowest), turn(slowest), turn(5_000)];
      return summarizeWebhooks({ ours, bare, flushesMs: [1], crash }).map(isKept);
    };

    expect(judge(100)).toEqual([true, undefined, undefined, undefined, true, false]);
    expect(judge(101)).toEqual([false, undefined, undefined, undefined, true, false]);
  });

  test("of a machine's memory, what is not the guest's is the hypervisor's", () => {
    const rows = summarizeDensity([{ wholeMib: 256, guestMib: 176 }]);

    expect(rows.map(({ measured }) => measured.median)).toEqual([256, 256, 80]);
    expect(rows[0]?.ratio).toBe(0.5);
  });
});

test("caches are compared with the disk, up and down", () => {
  const round = { up: 2_000, written: 1_000, down: 1_000, read: 800 };
  const rows = summarizeCaches(256 * 1024 ** 2, [round, round]);

  expect(rows.map(({ measured, ratio }) => [measured.median, ratio])).toEqual([
    [128, 0.5],
    [256, 0.8],
  ]);
  expect(rows.map(isKept)).toEqual([false, true]);
});
