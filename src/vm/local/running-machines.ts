/**
 * The machines this driver knows to run: one watch each, and the sweep that keeps their console files short. A watch holds the hypervisor's
 * only control connection, whose end is the first news of a death, and looks at the process where there is none.
 */
import { rm } from "node:fs/promises";
import type { Clock } from "../../base/clock.ts";
import { atMost, withDeadline } from "../../base/deadline.ts";
import { describeError } from "../../base/errors.ts";
import { createListeners } from "../../base/listeners.ts";
import type { Log } from "../../base/log.ts";
import type { Exit, ExitKind } from "../driver.ts";
import type { Consoles } from "./console-file.ts";
import type { Control } from "./hypervisor.ts";
import { exitWithMemory, type MachineFiles, writeExit } from "./machine-directory.ts";
import { isAlive, killProcess, oomKills, type ProcessId, processStartedAt } from "./processes.ts";

const SWEEP_MS = 2_000;
/** How long the end of a killed process is waited for. */
const END_MS = 5_000;

interface Known {
  readonly watch: Watch;
  ended: boolean;
  /** How it is to be said to have ended, since that was decided here. */
  fate: Exit | undefined;
  /** How it ended. */
  exit: Exit | undefined;
  readonly files: MachineFiles;
  readonly startedAt: number;
}

interface RunningMachinesDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly consoles: Consoles;
  /** Connects to the hypervisor whose control socket this is. */
  readonly connect: (path: string, signal: AbortSignal) => Promise<Control>;
}

export interface RunningMachines {
  /** Begins to watch, unless this very process is watched already. Returns when it started (epoch ms). */
  watch(id: string, files: MachineFiles, process: ProcessId, control?: Control): Promise<number>;
  /** True from `watch` until its end was noted. */
  isRunning(id: string): boolean;
  /** Returns when the end of a machine that no longer runs has been noted. */
  settled(id: string): Promise<void>;
  /** Machines that run and of which nothing is known that ends them. */
  running(): string[];
  /** How it ended, where that was seen and could not be written down. */
  exitOf(id: string): Exit | undefined;
  /**
   * Ends a machine for what is wrong with it or its host: its end is told like any other. Resolves when its process is gone and its
   * disk too, or after a few seconds.
   */
  end(id: string, exit: Exit): Promise<void>;
  /** Called with each machine whose hypervisor says that it cannot go on, before it is ended. */
  onFault(listener: (fault: { readonly id: string; readonly exit: Exit }) => void): () => void;
  /** Its end will not be told any more: we are the ones who end it. */
  forget(id: string): void;
  onExit(listener: (id: string) => void): () => void;
  close(): void;
}

export function createRunningMachines({
  clock,
  log,
  consoles,
  connect,
}: RunningMachinesDeps): RunningMachines {
  const known = new Map<string, Known>();
  const exits = createListeners<string>();
  const faults = createListeners<{ readonly id: string; readonly exit: Exit }>();
  const closed = new AbortController();

  async function watch(
    id: string,
    files: MachineFiles,
    process: ProcessId,
    control?: Control,
  ): Promise<number> {
    const other = known.get(id);
    if (other && isSame(other.watch.process, process)) return other.startedAt;
    const [startedAt, killsBefore] = await Promise.all([processStartedAt(process, clock), oomKills()]);
    // Another call may have come first while the clock was read.
    const first = known.get(id);
    if (first && isSame(first.watch.process, process)) return first.startedAt;
    first?.watch.stop();
    const options = {
      ...{ process, clock, ...(control ? { control } : {}) },
      connect: (signal: AbortSignal) => connect(files.control, signal),
    };
    const next = watchMachine({
      ...options,
      onFault: (exit) => {
        if (known.get(id) !== machine || machine.fate) return;
        faults.emit({ id, exit });
        void end(id, exit).catch(() => {});
      },
      onEnd: async (kind) => {
        const exit = exitWithMemory(kind, killsBefore, await oomKills());
        machine.exit = machine.fate ?? { exit };
        await noteEnd(log, id, files, machine.exit);
        if (known.get(id) === machine) exits.emit(id);
      },
    });
    if (closed.signal.aborted) next.stop();
    const machine: Known = { watch: next, ended: false, fate: undefined, exit: undefined, files, startedAt };
    void next.ended.then(() => {
      machine.ended = true;
    });
    known.set(id, machine);
    return startedAt;
  }

  const end = (id: string, exit: Exit) => endMachine(clock, known.get(id), exit);
  void sweep({ clock, log, consoles }, () => [...known.values()], closed.signal);
  return {
    watch,
    running: () => [...known].flatMap(([id, { ended, fate }]) => (ended || fate ? [] : [id])),
    exitOf: (id) => known.get(id)?.exit,
    end,
    onFault: faults.add,
    isRunning: (id) => known.get(id)?.ended === false,
    settled: async (id) => await known.get(id)?.watch.ended,
    forget(id) {
      const machine = known.get(id);
      machine?.watch.stop();
      if (machine) consoles.forget(machine.files.console);
      known.delete(id);
    },
    onExit: exits.add,
    close() {
      closed.abort();
      for (const machine of known.values()) machine.watch.stop();
    },
  };
}

function isSame(one: ProcessId, other: ProcessId): boolean {
  return one.pid === other.pid && one.startTicks === other.startTicks;
}

async function endMachine(clock: Clock, machine: Known | undefined, exit: Exit): Promise<void> {
  if (!machine || machine.ended) return;
  machine.fate ??= exit;
  await killProcess(machine.watch.process);
  await atMost(clock, END_MS, machine.watch.ended);
}

async function noteEnd(log: Log, id: string, files: MachineFiles, exit: Exit): Promise<void> {
  // Its space is needed now, not when all of it is removed, for which the store has to take a few rows first.
  if (exit.exit === "host-disk") await rm(files.scratch, { force: true }).catch(() => {});
  await writeExit(files, exit).catch((error: unknown) => {
    log.warn({ machineId: id, error: describeError(error) }, "how a machine ended could not be noted");
  });
  log.info({ machineId: id, ...exit }, "machine ended");
}

/** Cuts what machines write beside their disks, now and then, until the signal aborts. */
async function sweep(
  { clock, log, consoles }: { clock: Clock; log: Log; consoles: Consoles },
  machines: () => readonly Known[],
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    await clock.sleep(SWEEP_MS, signal).catch(() => {});
    for (const { files } of machines())
      for (const path of [files.console, files.log])
        await consoles.trim(path).catch((error: unknown) => {
          log.warn({ path, error: describeError(error) }, "a console file could not be cut");
        });
  }
}

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

interface Watch {
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
