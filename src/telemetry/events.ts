import type { Log } from "../base/log.ts";
import type { EventKind, LifecycleEvent } from "../domain/events.ts";
import { composeJobRecord, type JobRecord } from "./job-record.ts";

export interface EventLogDeps {
  /** Calls the listener for each event from now on; returns the way to stop. */
  readonly onEvent: (listener: (event: LifecycleEvent) => void) => () => void;
  /** The events of a job that its record is made of (`kindsOfRecord`), oldest first, those before this process included. */
  readonly history: (jobId: number) => Promise<readonly LifecycleEvent[]>;
  /** The trace of a job; by default none has one. */
  readonly traceIdOf?: (jobId: number) => Promise<string | undefined>;
  readonly log: Log;
  /** Hears of each job's record as it is written. Must not throw. */
  readonly onRecord?: ((record: JobRecord) => void) | undefined;
}

type Level = "debug" | "info" | "warn";

/** How loud each event is, and its line. A job's end is told by its record instead. */
const lines: Readonly<Record<EventKind, readonly [Level, string]>> = {
  "job:claimed": ["info", "job claimed"],
  "job:starting": ["debug", "job starting"],
  "job:running": ["info", "job running"],
  "job:retried": ["warn", "job gets another machine"],
  "job:failing": ["warn", "job cannot go on"],
  "job:finished": ["debug", "job finished"],
  "job:report-failed": ["warn", "report of a failed job not taken"],
  "job:noticed": ["debug", "job waits in GitLab"],
  "job:left-alone": ["warn", "job left to wait in GitLab"],
  "job:no-longer-pending": ["debug", "job waits in GitLab no more"],
  "runner:creating": ["debug", "runner being made in GitLab"],
  "runner:active": ["info", "runner made in GitLab"],
  "runner:retiring": ["info", "runner to be deleted in GitLab"],
  "runner:gone": ["info", "runner deleted in GitLab"],
  "machine:creating": ["debug", "machine creating"],
  "machine:fetching": ["debug", "images of a machine's job are fetched"],
  "machine:images-here": ["info", "images of a machine's job are here"],
  "machine:booting": ["debug", "machine booting"],
  "machine:heard": ["debug", "machine heard"],
  "machine:ready": ["debug", "machine ready"],
  "machine:busy": ["debug", "machine busy"],
  "machine:ended": ["debug", "machine told of its end"],
  "machine:stopping": ["debug", "machine stopping"],
  "machine:gone": ["debug", "machine gone"],
  "machine:adopted": ["info", "machine adopted"],
  "machine:create-failed": ["warn", "machine not created"],
  "machine:destroy-failed": ["warn", "machine not destroyed yet"],
  "machine:console": ["debug", "machine left last words"],
  "machine:out-of-memory": ["info", "machine had no memory left"],
  "machine:unknown": ["warn", "unknown machine destroyed"],
  "host:drained": ["info", "host drained"],
  "host:resumed": ["info", "host resumed"],
  "operator:acted": ["info", "somebody had something changed"],
  "egress:asked": ["debug", "egress asked for"],
  "egress:unlisted": ["info", "egress asked for that is not listed"],
  "egress:connected": ["debug", "egress connected"],
  "egress:failed": ["info", "egress failed"],
  "egress:allowed": ["debug", "egress allowed"],
  "egress:refused": ["info", "egress refused"],
  "guest:refused": ["warn", "guest broke a rule"],
};

/**
 * Writes a line for each event, and one record for each job when its story is complete. Returns the way to stop, which
 * resolves when records under way are written.
 */
export function logEvents(deps: EventLogDeps): () => Promise<void> {
  const { onEvent, history, traceIdOf = async () => undefined, log, onRecord } = deps;
  const underWay = new Set<Promise<void>>();
  /** Machines that this process has seen being made and not gone: until they are, the story of their job is not complete. */
  const machines = new Map<string, number | null>();

  async function recordIfComplete(event: LifecycleEvent, jobId: number): Promise<void> {
    try {
      const told = composeJobRecord(await history(jobId), event);
      if (told === undefined) return;
      const traceId = await traceIdOf(jobId);
      const record = { ...told, ...(traceId === undefined ? {} : { traceId }) };
      log.info({ ...record, durationMs: record.phases.totalMs }, "job record");
      onRecord?.(record);
    } catch (error) {
      log.warn({ err: error, jobId }, "job record not written");
    }
  }

  const stop = onEvent((event) => {
    writeLine(log, event);
    noteMachine(machines, event);
    const mayComplete = event.kind === "job:finished" || event.kind === "machine:gone";
    if (!mayComplete || event.jobId === null || [...machines.values()].includes(event.jobId)) return;
    const work = recordIfComplete(event, event.jobId).finally(() => underWay.delete(work));
    underWay.add(work);
  });

  return async () => {
    stop();
    await Promise.all(underWay);
  };
}

function noteMachine(machines: Map<string, number | null>, { kind, machineId, jobId }: LifecycleEvent): void {
  if (machineId === null) return;
  if (kind === "machine:creating") machines.set(machineId, jobId);
  if (kind === "machine:gone") machines.delete(machineId);
}

function writeLine(log: Log, event: LifecycleEvent): void {
  const [level, message] = lines[event.kind];
  const about = {
    event: event.kind,
    ...(event.jobId === null ? {} : { jobId: event.jobId }),
    ...(event.machineId === null ? {} : { machineId: event.machineId }),
  };
  // What a guest wrote on its console is for `why` and the job's trace, not for the log of the host.
  const detail = event.kind === "machine:console" ? { length: event.detail.text.length } : event.detail;
  log[level]({ ...about, ...detail }, message);
}
