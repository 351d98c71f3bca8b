/** One life of the daemon's process: its queue, its timers and its only worker. What it knows here dies with it. */
import type { Host } from "./host.ts";
import { hasSlash, reconcile } from "./reconcile.ts";
import { createWorkQueue } from "./work-queue.ts";

/** Measured: about 400 log lines/s of a loop, 4,800 of a daemon whose events are cut off. */
const LOOP_STEP_MS = 2.5;
const BEFORE_PANIC_MS = 50;
const DEAF_LINES_PER_MS = 4.8;

export interface Daemon {
  /** A create or delete has been stored: containerd's event for it. */
  announce(uid: string): void;
  /** All machines are looked at, as by the timer. */
  resync(): void;
  /** containerd was restarted. */
  loseEvents(): void;
  readonly isDeaf: boolean;
  /** Entries waiting, in work or in back-off. */
  readonly pending: number;
  /** Reconciles of machines that are gone: more than a few is the loop. */
  readonly loopSteps: number;
  readonly logLines: number;
  /** The process ends: nothing goes on, wherever it was. */
  end(): void;
}

export function startDaemon(host: Host, crash: (reason: string) => void): Daemon {
  const { clock, times, misbehaviour } = host.settings;
  const life = new AbortController();
  const queue = createWorkQueue();
  const retries = new Map<string, number>();
  let working = 0;
  let deafAt: number | undefined;
  let loopSteps = 0;
  let logLines = 0;

  async function work(): Promise<void> {
    for (;;) {
      const uid = await queue.next(life.signal);
      working = 1;
      await step(uid).finally(() => {
        working = 0;
      });
    }
  }

  async function step(uid: string): Promise<void> {
    logLines++;
    const outcome = await reconcile(host, uid, life.signal);
    // The create has been answered by then.
    if (outcome.kind === "panic") await clock.sleep(BEFORE_PANIC_MS, life.signal);
    if (outcome.kind === "panic") crash("panic: nil pointer dereference: WithMicroVM, config.go:118");
    if (outcome.kind === "again") addLater(uid, outcome.afterMs);
    if (outcome.kind === "gone" && misbehaviour.loopsWhenGone) {
      loopSteps++;
      await clock.sleep(LOOP_STEP_MS, life.signal);
      queue.add(uid);
    }
  }

  function addLater(uid: string, afterMs: number): void {
    const waiting = retries.get(uid) ?? 0;
    if (waiting > 0 && !misbehaviour.loopsAfterBackOff) return;
    retries.set(uid, waiting + 1);
    run(async () => {
      await clock.sleep(afterMs, life.signal);
      retries.set(uid, (retries.get(uid) ?? 1) - 1);
      queue.add(uid);
    });
  }

  function resync(): void {
    if (deafAt !== undefined) return;
    const machines = host.content.all();
    // It begins with a list, and that fails for ever.
    if (misbehaviour.slashPoisonsList && machines.some(hasSlash)) return;
    for (const { uid } of machines) queue.add(uid);
  }

  async function resyncForEver(): Promise<void> {
    for (;;) {
      resync();
      await clock.sleep(times.resyncPeriodMs, life.signal);
    }
  }

  function run(task: () => Promise<void>): void {
    task().catch((error) => {
      if (!life.signal.aborted) crash(String(error));
    });
  }

  run(work);
  run(resyncForEver);

  return {
    announce: (uid) => {
      if (deafAt === undefined) queue.add(uid);
    },
    resync,
    loseEvents: () => {
      if (misbehaviour.deafAfterContainerdRestart) deafAt ??= clock.now();
    },
    get isDeaf() {
      return deafAt !== undefined;
    },
    get pending() {
      return queue.length + working + [...retries.values()].reduce((sum, each) => sum + each, 0);
    },
    get loopSteps() {
      return loopSteps;
    },
    get logLines() {
      const deafMs = deafAt === undefined ? 0 : clock.now() - deafAt;
      return logLines + Math.floor(deafMs * DEAF_LINES_PER_MS);
    },
    end: () => life.abort(new Error("the daemon has ended")),
  };
}
