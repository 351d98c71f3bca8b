/**
 * This process and this computer, as the kernel and Node tell of them. What the client's own defaults give is named in ways that Prometheus
 * does not accept. Files of /proc are short; one that is not there leaves out what it would say.
 */
import { readdir, readFile } from "node:fs/promises";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { getHeapStatistics } from "node:v8";
import { type Clock, every } from "../../base/clock.ts";
import { SECOND_MS } from "../../base/units.ts";
import type { Snapshot } from "./instruments.ts";

/** How late the event loop was, in seconds. */
export interface LoopLag {
  readonly mean: number;
  readonly p99: number;
  readonly max: number;
}

export interface LoopWatch {
  /** Of the last whole window; undefined before there was one. */
  lag(): LoopLag | undefined;
  close(): void;
}

const WINDOW_MS = 15_000;
/** How often it is looked: a lag is what a look is later than this. */
const RESOLUTION_MS = 20;
const NS_PER_SECOND = 1e9;

/** Looks at the event loop until it is closed. Windows do not depend on who scrapes, or how many do. */
export function watchLoop(clock: Clock): LoopWatch {
  const histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  histogram.enable();
  let last: LoopLag | undefined;
  const stop = every(clock, WINDOW_MS, () => {
    last = lagOf({
      mean: histogram.mean,
      p99: histogram.percentile(99),
      max: histogram.max,
    });
    histogram.reset();
  });
  return {
    lag: () => last,
    close() {
      stop();
      histogram.disable();
    },
  };
}

/** From nanoseconds between looks. */
function lagOf({ mean, p99, max }: LoopLag): LoopLag {
  const late = (ns: number) => {
    const seconds = (Number.isFinite(ns) ? ns : 0) / NS_PER_SECOND - RESOLUTION_MS / SECOND_MS;
    return Math.max(0, seconds);
  };
  return { mean: late(mean), p99: late(p99), max: late(max) };
}

export async function writeProcess({ set, counted }: Snapshot, lag: LoopLag | undefined): Promise<void> {
  const { user, system } = process.cpuUsage();
  counted("process_cpu_seconds_total", (user + system) / 1e6);
  set("process_resident_memory_bytes", process.memoryUsage.rss());
  const heap = getHeapStatistics();
  set("firerunner_heap_used_bytes", heap.used_heap_size);
  set("firerunner_heap_limit_bytes", heap.heap_size_limit);
  for (const [statistic, seconds] of Object.entries(lag ?? {}))
    set("firerunner_event_loop_lag_seconds", seconds, { statistic });
  const [stat, limits, fds] = await Promise.all([
    textOf("/proc/self/status"),
    textOf("/proc/self/limits"),
    readdir("/proc/self/fd").catch(() => undefined),
  ]);
  set("process_virtual_memory_bytes", kibOf(stat, "VmSize"));
  set("process_max_fds", numberIn(/^Max open files\s+(\d+)/m, limits));
  // One of them is the directory that was read for this.
  set("process_open_fds", fds && fds.length - 1);
}

const resources = ["cpu", "memory", "io"] as const;
const MICROSECONDS = 1e6;

/** `directory` is `/proc`, or what stands for it. */
export async function writeComputer({ set, counted }: Snapshot, directory = "/proc"): Promise<void> {
  const [memory, events, ...pressures] = await Promise.all([
    textOf(`${directory}/meminfo`),
    textOf(`${directory}/vmstat`),
    ...resources.map((resource) => textOf(`${directory}/pressure/${resource}`)),
  ]);
  set("firerunner_local_memory_bytes", kibOf(memory, "MemTotal"));
  set("firerunner_local_memory_available_bytes", kibOf(memory, "MemAvailable"));
  counted("firerunner_local_oom_kills_total", numberIn(/^oom_kill (\d+)$/m, events));
  for (const [index, resource] of resources.entries()) {
    for (const kind of ["some", "full"] as const) {
      const total = numberIn(new RegExp(`^${kind} .*total=(\\d+)$`, "m"), pressures[index]);
      const seconds = total === undefined ? undefined : total / MICROSECONDS;
      counted("firerunner_local_pressure_seconds_total", seconds, { resource, kind });
    }
  }
}

async function textOf(path: string): Promise<string | undefined> {
  return await readFile(path, "utf8").catch(() => undefined);
}

function kibOf(text: string | undefined, name: string): number | undefined {
  const kib = numberIn(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m"), text);
  return kib === undefined ? undefined : kib * 1024;
}

function numberIn(pattern: RegExp, text: string | undefined): number | undefined {
  const [, digits] = pattern.exec(text ?? "") ?? [];
  return digits === undefined ? undefined : Number(digits);
}
