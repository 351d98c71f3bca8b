/**
 * One watch per running machine: it holds the hypervisor's only control connection, whose end is the first news of a death,
 * and falls back to looking at the process where there is none.
 */
import type { Clock } from "../../base/clock.ts";
import { withDeadline } from "../../base/deadline.ts";
import type { Exit, ExitKind } from "../driver.ts";
import type { Control } from "./hypervisor.ts";
import { isAlive, type ProcessId } from "./processes.ts";

const CONNECT_MS = 5_000;
const LOOK_MS = 500;
/** From the closing of the connection to the end of the process: it frees its memory first. */
const LINGER_MS = 20;
const LINGER_TRIES = 100;

interface WatchOptions {
  readonly process: ProcessId;
  /** Connects to its hypervisor. */
  readonly connect: (signal: AbortSignal) => Promise<Control>;
  /** The connection, where one exists already. */
  readonly control?: Control;
  readonly clock: Clock;
  /** Called for each sign that the machine cannot go on as it should, though its process runs. May be called again and again. */
  onFault(fault: Exit): void;
  /** Called once the process is gone. The watch has ended when what it returns has settled. */
  onEnd(exit: ExitKind): Promise<void>;
}

export interface Watch {
  readonly process: ProcessId;
  /** Resolves when the end was seen and dealt with, or the watch was stopped. Never rejects. */
  readonly ended: Promise<void>;
  /** Lets go. The machine is not touched, and its end is no longer told. */
  stop(): void;
}

export function watchMachine(options: WatchOptions): Watch {
  const stopped = new AbortController();
  const { signal } = stopped;

  async function connected(): Promise<Control | undefined> {
    const limit = { limitMs: CONNECT_MS, parent: signal, cleanUpMs: 0 };
    return await withDeadline(options.clock, limit, options.connect).catch(() => undefined);
  }

  /** Returns how the machine ended, or undefined while it runs. */
  async function listenTo(control: Control): Promise<ExitKind | undefined> {
    const close = () => control.close();
    signal.addEventListener("abort", close, { once: true });
    if (signal.aborted) close();
    const seen = await control.follow((fault) => {
      if (!signal.aborted) options.onFault(fault);
    });
    signal.removeEventListener("abort", close);
    return (await isGoneSoon()) ? (seen ?? "killed") : undefined;
  }

  async function isGoneSoon(): Promise<boolean> {
    for (let tries = 0; tries < LINGER_TRIES && !signal.aborted; tries++) {
      if (!(await isAlive(options.process))) return true;
      await options.clock.sleep(LINGER_MS, signal).catch(() => {});
    }
    return false;
  }

  /** One look, as long as the connection lasts. */
  async function look(control: Control | undefined): Promise<ExitKind | undefined> {
    const exit = control ? await listenTo(control) : undefined;
    if (exit !== undefined || (await isAlive(options.process))) return exit;
    // It ended without a connection: that it ended is all there is to know.
    return "lost";
  }

  async function watch(): Promise<void> {
    let exit = await look(options.control ?? (await connected()));
    while (exit === undefined && !signal.aborted) {
      await options.clock.sleep(LOOK_MS, signal).catch(() => {});
      exit = await look(await connected());
    }
    if (exit !== undefined && !signal.aborted) await options.onEnd(exit);
  }

  return { process: options.process, ended: watch().catch(() => {}), stop: () => stopped.abort() };
}
