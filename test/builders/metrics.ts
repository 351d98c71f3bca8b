import { onTestFinished } from "vitest";
import { createListeners } from "../../src/base/listeners.ts";
import { silentLog } from "../../src/base/log.ts";
import { createManualClock } from "../../src/base/manual-clock.ts";
import type { EventDetails, EventKind, LifecycleEvent } from "../../src/domain/events.ts";
import type { LivingJob, LivingMachine } from "../../src/telemetry/metrics/events.ts";
import { createMetrics, type Metrics } from "../../src/telemetry/metrics/metrics.ts";

interface Begun {
  readonly jobs?: readonly LivingJob[];
  readonly machines?: readonly LivingMachine[];
}

/** Metrics of a store that says what the test says; closed with the test. */
export async function watchedMetrics({ jobs = [], machines = [] }: Begun = {}) {
  const clock = createManualClock(1_000_000);
  const problems: object[] = [];
  const log = { ...silentLog, warn: (fields: object) => void problems.push(fields) };
  const metrics = createMetrics({ withCompatible: true, clock, log });
  onTestFinished(() => metrics.close());
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

type WatchedMetrics = Awaited<ReturnType<typeof watchedMetrics>>;

async function seriesOf(metrics: Metrics): Promise<Map<string, number>> {
  const { text } = await metrics.scrape("prometheus");
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ")))]),
  );
}

export const claim = { pool: "small", runner: "glrt-abcd", name: "build", project: "g/p", pollMs: 40 };
export const size = { host: "local", driver: "qemu", cpus: 2, memoryMib: 1_024 };

/** One whole job in a machine of its own, ten seconds of work. */
export async function runJob(at: WatchedMetrics, job: number, pool: string, project = "g/p"): Promise<void> {
  const machine = `fr-${job}`;
  at.tell("job:claimed", { ...claim, pool, project, queuedMs: 2_000 }, { job });
  at.tell("job:starting", { machineId: machine, attempt: 1, host: "local" }, { job, machine });
  at.tell("machine:creating", size, { job, machine });
  at.tell("machine:booting", {}, { job, machine });
  at.tell("job:running", { machineId: machine }, { job, machine });
  at.tell("job:finished", { result: "success" }, { job, machine });
  at.tell("machine:gone", {}, { job, machine });
}
