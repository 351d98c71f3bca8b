/** Traces of jobs, where the configuration wants them: what makes and sends them is loaded only then, and comes and goes with a reload. */
import { systemClock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { formatDuration } from "../base/units.ts";
import { createTraceRule } from "../claiming/job-trace.ts";
import type { Config } from "../config/load.ts";
import { spanOfWork, traceparentOf } from "../domain/trace-context.ts";
import type { Job, Store } from "../store/store.ts";
import type { TracesSettings } from "../telemetry/traces/config.ts";
import type { Sender } from "../telemetry/traces/sender.ts";
import type { TraceFigures, Tracer } from "../telemetry/traces/tracer.ts";

interface TracesOptions {
  /** The configuration in force; a reload changes it. */
  readonly config: () => Pick<Config, "traces" | "tracesAccess" | "proxy" | "gitlab" | "history">;
  readonly store: Store;
  readonly version: string;
  readonly log: Log;
}

export interface Traces {
  /** Makes what the configuration wants now. */
  reload(): Promise<void>;
  /** Undefined where no traces are wanted. */
  figures(): TraceFigures | undefined;
  /** What keeps traces from being taken, in words. */
  notices(): string[];
  stop(): Promise<void>;
}

interface Running {
  readonly tracer: Tracer;
  sender: Sender;
  /** What the sender was made of. */
  madeOf: string;
}

export async function openTraces(options: TracesOptions): Promise<Traces> {
  const { config, store, version, log } = options;
  let running: Running | undefined;

  async function begin(): Promise<Running> {
    const { createTracer } = await import("../telemetry/traces/tracer.ts");
    const sender = await newSender();
    const tracer = createTracer({
      queue: store,
      // One that has begun ends with `running`, and its last requests still go out.
      sender: () => running?.sender ?? sender,
      producer: { version, installationId: store.installationId },
      keepMs: () => Math.min(config().traces?.keep ?? 0, config().history.keep),
      gitlabUrl: config().gitlab.url.replace(/\/+$/, ""),
      clock: systemClock,
      random: Math.random,
      log: log.child({ component: "traces" }),
    });
    return { tracer, sender, madeOf: fingerprint(config()) };
  }

  async function newSender(): Promise<Sender> {
    const { createSender } = await import("../telemetry/traces/sender.ts");
    const { traces, tracesAccess: access, proxy: proxies } = config();
    if (!traces || !access) throw new Error("there is no collector to send traces to");
    return createSender(
      { endpoint: traces.endpoint, timeoutMs: traces.timeout, access, proxies },
      systemClock,
    );
  }

  async function stop(): Promise<void> {
    const ended = running;
    await ended?.tracer.stop();
    await ended?.sender.close();
    running = undefined;
  }

  async function reload(): Promise<void> {
    if (!config().traces) return await stop();
    if (running === undefined) {
      running = await begin();
      running.tracer.start();
    } else if (running.madeOf !== fingerprint(config())) {
      const before = running.sender;
      running.sender = await newSender();
      running.madeOf = fingerprint(config());
      // What it has under way is sent again by the new one.
      await before.close();
    }
    running.tracer.reload();
  }

  await reload();
  return {
    reload,
    stop,
    figures: () => running?.tracer.figures(),
    notices: () => noticesOf(running?.tracer.figures(), config().traces),
  };
}

function fingerprint({ traces, tracesAccess }: ReturnType<TracesOptions["config"]>): string {
  const headers = tracesAccess?.headers.map(([name, value]) => [name, value.reveal()]);
  return JSON.stringify([traces?.endpoint, traces?.timeout, headers, tracesAccess?.ca]);
}

function noticesOf(figures: TraceFigures | undefined, settings: TracesSettings | undefined): string[] {
  const { problem } = figures ?? {};
  if (problem === undefined || settings === undefined) return [];
  const forText = formatDuration(Math.max(0, systemClock.now() - problem.since));
  return [
    `traces are not taken at ${settings.endpoint} (traces.endpoint), for ${forText}: ${problem.words}; they wait for ${formatDuration(settings.keep)} after their job's end (traces.keep)`,
  ];
}

/** Says of each claimed job to which trace it belongs. */
export function traceRuleOf(store: Pick<Store, "installationId">, config: () => Pick<Config, "traces">) {
  return createTraceRule({
    installationId: store.installationId,
    share: () => config().traces?.sampling,
  });
}

/** What a job is told of its trace. */
export function traceparentFor(store: Pick<Store, "trace">, config: () => Pick<Config, "traces">) {
  return async ({ id, machineId }: Job): Promise<string | undefined> => {
    if (!config().traces?.guests || machineId === null) return undefined;
    const trace = await store.trace(id);
    return trace && traceparentOf(trace.traceId, spanOfWork(trace, machineId));
  };
}
