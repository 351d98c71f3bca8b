/**
 * Makes the traces of jobs that have ended, and sends them, a few at a time. Which are still to be made stands in the store: a job's mark is
 * there from its claim and goes when the collector has taken its trace, so that nothing is lost with this process, and nothing waits in
 * its memory. Where the collector's answer was lost, or this process died before it noted it, the trace is made and sent again: with the same
 * ids, since all of them are derived.
 */
import { after, type Clock } from "../../base/clock.ts";
import { describeError } from "../../base/errors.ts";
import type { Log } from "../../base/log.ts";
import { backoffMs } from "../../base/rates.ts";
import { MINUTE_MS, SECOND_MS } from "../../base/units.ts";
import { createWakeLoop } from "../../base/wake-loop.ts";
import type { EventKind, LifecycleEvent } from "../../domain/events.ts";
import { composeSpans, type DueTrace, kindsOfStory, type Span } from "./job-story.ts";
import { encodeSpans, type Producer } from "./otlp.ts";
import type { Outcome, Sender } from "./sender.ts";

/** What is read of the store, and the only thing that is changed there. */
interface TraceQueue {
  dueTraces(limit: number): Promise<readonly DueTrace[]>;
  settleTraces(jobIds: readonly number[]): Promise<void>;
  giveUpTraces(endedBefore: number): Promise<number>;
  job(id: number): Promise<{ readonly stage: string } | undefined>;
  events(filter: { jobId: number; kinds: readonly EventKind[]; limit: number }): Promise<LifecycleEvent[]>;
  onEvent(listener: (event: LifecycleEvent) => void): () => void;
}

export interface TracerOptions {
  readonly queue: TraceQueue;
  /** What is in use now; a reload changes it. */
  readonly sender: () => Sender;
  readonly producer: Producer;
  /** How long after its job's end a trace may wait. */
  readonly keepMs: () => number;
  /** Of GitLab, without a slash at the end. */
  readonly gitlabUrl: string;
  readonly clock: Clock;
  /** [0, 1) */
  readonly random: () => number;
  readonly log: Log;
}

/** Counted since the start. */
export interface TraceFigures {
  /** Traces that a collector took. */
  readonly sent: number;
  /** Traces that were given up: refused by the collector, or too old. */
  readonly dropped: number;
  /** Spans that a collector did not take of what it took otherwise. */
  readonly rejectedSpans: number;
  /** Why none is taken now, in words, and since when (epoch ms); undefined while they are. */
  readonly problem: { readonly words: string; readonly since: number } | undefined;
}

export interface Tracer {
  start(): void;
  /** What was in the way may be gone: nothing is waited for any longer. */
  reload(): void;
  figures(): TraceFigures;
  /** A request under way has some seconds more; what is left then is for the next start. */
  stop(): Promise<void>;
}

/** So many jobs are one request at most, so many spans about: well below what collectors, and proxies before them, take. */
const MOST_JOBS = 32;
const MOST_SPANS = 512;
/** A job has a dozen events of these kinds for each of its machines. */
const MOST_EVENTS = 5_000;
/** Nothing announces that a trace has become too old. */
const TICK_MS = MINUTE_MS;
/** When the store could not be read or written. */
const STORE_PAUSE_MS = 10 * SECOND_MS;
const STOP_LIMIT_MS = 3 * SECOND_MS;
const SAID_EVERY_MS = MINUTE_MS;
/** What a collector answers with 500 it may answer so for ever, and all others wait behind it. */
const DOUBTFUL_TRIES = 5;
const limits = { baseMs: SECOND_MS, capMs: MINUTE_MS };

interface Batch {
  readonly jobIds: readonly number[];
  readonly spans: readonly Span[];
}

export function createTracer(options: TracerOptions): Tracer {
  const { queue, sender, producer, clock, log } = options;
  const ending = new AbortController();
  const batches = createBatches(options);
  const trouble = createTrouble(options);
  const tally = createTally(log);
  const loop = createWakeLoop(clock, poll);
  let most = MOST_JOBS;
  let isStopping = false;
  const unsubscribe = queue.onEvent(({ kind }) => {
    if (kind === "job:finished" || kind === "machine:gone") loop.wake();
  });

  /** Returns when to look again at the latest. Events wake it earlier; what a collector asks for is waited for all the same. */
  async function poll(): Promise<number> {
    try {
      while (!isStopping && clock.now() >= trouble.retryAt()) {
        await batches.settle([]);
        tally.old(await batches.giveUpOld());
        const batch = await batches.next(most);
        if (batch.jobIds.length === 0) return clock.now() + TICK_MS;
        await conclude(batch, await outcomeOf(batch));
      }
      return Math.max(clock.now(), trouble.retryAt());
    } catch (error) {
      log.warn({ problem: describeError(error) }, "traces could not be made");
      return clock.now() + STORE_PAUSE_MS;
    }
  }

  async function outcomeOf({ spans }: Batch): Promise<Outcome> {
    if (spans.length === 0) return { kind: "taken", rejected: 0, note: "" };
    return await sender().send(encodeSpans(spans, producer), ending.signal);
  }

  async function conclude({ jobIds }: Batch, outcome: Outcome): Promise<void> {
    if (outcome.kind === "later" && ending.signal.aborted) return;
    if (outcome.kind === "refused" && outcome.tooLarge && jobIds.length > 1) {
      most = Math.ceil(jobIds.length / 2);
      return;
    }
    if (outcome.kind === "later" && trouble.isWorthAnotherTry(outcome))
      return trouble.pause(outcome.problem, outcome.waitMs);
    most = MOST_JOBS;
    if (outcome.kind === "taken") {
      trouble.over();
      tally.taken(jobIds, outcome);
    } else {
      tally.refused(jobIds, outcome.problem);
      // Who refuses these refuses others too until somebody changes something: not all that wait are to be lost at once.
      trouble.pause(outcome.problem, 0);
    }
    await batches.settle(jobIds);
  }

  return {
    start: () => loop.start(),
    reload() {
      trouble.hurry();
      loop.wake();
    },
    figures: () => ({ ...tally.figures, problem: trouble.problem() }),
    async stop() {
      unsubscribe();
      isStopping = true;
      const callOff = after(clock, STOP_LIMIT_MS, () => ending.abort(new Error("FireRunner ends")));
      await loop.stop();
      callOff();
    },
  };
}

/** What is to be sent, of the store; and that it was. */
function createBatches({ queue, keepMs, gitlabUrl, clock }: TracerOptions) {
  /** Taken, and not noted as such yet. */
  let taken: readonly number[] = [];
  return {
    /** What was taken is not sent again because a full disk does not let us note it. */
    async settle(jobIds: readonly number[]): Promise<void> {
      taken = [...taken, ...jobIds];
      if (taken.length > 0) await queue.settleTraces(taken);
      taken = [];
    },
    /** Returns how many. */
    giveUpOld: () => queue.giveUpTraces(clock.now() - keepMs()),
    async next(most: number): Promise<Batch> {
      const jobIds: number[] = [];
      const spans: Span[] = [];
      for (const trace of await queue.dueTraces(most)) {
        if (spans.length > MOST_SPANS) break;
        const { jobId } = trace;
        const history = await queue.events({ jobId, kinds: kindsOfStory, limit: MOST_EVENTS });
        const stage = (await queue.job(jobId))?.stage ?? "";
        spans.push(...composeSpans({ ...trace, stage, gitlabUrl }, history));
        jobIds.push(jobId);
      }
      return { jobIds, spans };
    },
  };
}

/** What became of traces: counted, and told of where one is lost. */
function createTally(log: Log) {
  const figures = { sent: 0, dropped: 0, rejectedSpans: 0 };
  return {
    figures,
    taken(jobIds: readonly number[], { rejected, note }: Outcome & { kind: "taken" }): void {
      figures.sent += jobIds.length;
      figures.rejectedSpans += rejected;
      if (rejected > 0) log.warn({ spans: rejected, note }, "the collector of traces rejected spans");
      else if (note !== "") log.info({ note }, "the collector of traces has a remark");
    },
    refused(jobIds: readonly number[], problem: string): void {
      figures.dropped += jobIds.length;
      log.warn({ problem, jobIds }, "traces of jobs dropped: the collector does not take them");
    },
    old(traces: number): void {
      figures.dropped += traces;
      if (traces > 0) log.warn({ traces }, "traces of jobs dropped: no collector took them for too long");
    },
  };
}

/** What is in the way, until when nothing is tried for it, and how often it is told of. */
function createTrouble({ clock, random, log }: TracerOptions) {
  let failures = 0;
  let doubtful = 0;
  let since = 0;
  let words = "";
  let retryAt = 0;
  let saidAt = Number.NEGATIVE_INFINITY;
  return {
    retryAt: () => retryAt,
    problem: () => (failures === 0 ? undefined : { words, since }),
    hurry() {
      retryAt = 0;
    },
    isWorthAnotherTry({ isDoubtful }: Outcome & { kind: "later" }): boolean {
      doubtful = isDoubtful ? doubtful + 1 : 0;
      return doubtful < DOUBTFUL_TRIES;
    },
    pause(problem: string, waitMs: number): void {
      if (failures === 0) since = clock.now();
      failures++;
      words = problem;
      retryAt = clock.now() + Math.max(waitMs, backoffMs(failures, random, limits));
      if (clock.now() - saidAt < SAID_EVERY_MS) return;
      saidAt = clock.now();
      log.warn({ problem, failures }, "the collector does not take traces");
    },
    over(): void {
      if (failures > 0) log.info({ forMs: clock.now() - since }, "the collector takes traces again");
      [failures, doubtful] = [0, 0];
      saidAt = Number.NEGATIVE_INFINITY;
    },
  };
}
