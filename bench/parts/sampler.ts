import { monitorEventLoopDelay, performance } from "node:perf_hooks";
import { MIB_BYTES } from "../../src/base/units.ts";

const RESOLUTION_MS = 5;

/** What the process took since the sample before. */
export interface Sample {
  /** Of one CPU. */
  readonly cpuPercent: number;
  readonly rssMib: number;
  /** What JavaScript holds: its heap, and buffers outside it. */
  readonly heldMib: number;
  /** 99th percentile of how late the event loop was. */
  readonly loopDelayP99Ms: number;
}

/** Measures this process, from one call to the next. */
export function createSampler(): () => Sample {
  const delays = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  delays.enable();
  let cpuBefore = process.cpuUsage();
  let sampledAt = performance.now();
  return () => {
    const { rss, heapUsed, external } = process.memoryUsage();
    const used = process.cpuUsage(cpuBefore);
    const now = performance.now();
    const elapsedMs = now - sampledAt;
    // The monitor counts from one look to the next, the time between two looks included.
    const late = Math.max(0, delays.percentile(99) / 1e6 - RESOLUTION_MS);
    delays.reset();
    cpuBefore = process.cpuUsage();
    sampledAt = now;
    return {
      cpuPercent: ((used.user + used.system) / 1_000 / elapsedMs) * 100,
      rssMib: rss / MIB_BYTES,
      heldMib: (heapUsed + external) / MIB_BYTES,
      loopDelayP99Ms: late,
    };
  };
}
