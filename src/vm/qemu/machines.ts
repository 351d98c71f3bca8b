/** The machines this driver knows to run: one watch each, and the sweep that keeps their console files short. */
import type { Clock } from "../../base/clock.ts";
import { describeError } from "../../base/errors.ts";
import { createListeners } from "../../base/listeners.ts";
import type { Log } from "../../base/log.ts";
import { type ProcessId, processStartedAt } from "../local/processes.ts";
import type { Consoles } from "./console.ts";
import { writeExit } from "./exit.ts";
import type { MachineFiles } from "./files.ts";
import type { QmpClient } from "./qmp.ts";
import { type Watch, watchMachine } from "./watch.ts";

const SWEEP_MS = 2_000;

interface Known {
  readonly watch: Watch;
  ended: boolean;
  readonly files: MachineFiles;
  readonly startedAt: number;
}

export interface RunningMachines {
  /** Begins to watch, unless this very process is watched already. Returns when it started (epoch ms). */
  watch(id: string, files: MachineFiles, process: ProcessId, qmp?: QmpClient): Promise<number>;
  /** True from `watch` until its end was noted. */
  isRunning(id: string): boolean;
  /** Returns when the end of a machine that no longer runs has been noted. */
  settled(id: string): Promise<void>;
  /** Its end will not be told any more: we are the ones who end it. */
  forget(id: string): void;
  onExit(listener: (id: string) => void): () => void;
  close(): void;
}

export function createRunningMachines(clock: Clock, log: Log, consoles: Consoles): RunningMachines {
  const known = new Map<string, Known>();
  const exits = createListeners<string>();
  const closed = new AbortController();

  async function watch(
    id: string,
    files: MachineFiles,
    process: ProcessId,
    qmp?: QmpClient,
  ): Promise<number> {
    const other = known.get(id);
    if (other && isSame(other.watch.process, process)) return other.startedAt;
    const startedAt = await processStartedAt(process, clock);
    // Another call may have come first while the clock was read.
    const first = known.get(id);
    if (first && isSame(first.watch.process, process)) return first.startedAt;
    first?.watch.stop();
    const options = { process, qmpPath: files.qmp, ...(qmp ? { qmp } : {}), clock };
    const next = watchMachine({
      ...options,
      onEnd: async (exit) => {
        await writeExit(files, exit).catch((error: unknown) => {
          log.warn({ machineId: id, error: describeError(error) }, "how a machine ended could not be noted");
        });
        log.info({ machineId: id, exit }, "machine ended");
        if (known.get(id)?.watch === next) exits.emit(id);
      },
    });
    if (closed.signal.aborted) next.stop();
    const machine: Known = { watch: next, ended: false, files, startedAt };
    void next.ended.then(() => {
      machine.ended = true;
    });
    known.set(id, machine);
    return startedAt;
  }

  async function sweep(): Promise<void> {
    while (!closed.signal.aborted) {
      await clock.sleep(SWEEP_MS, closed.signal).catch(() => {});
      for (const { files } of known.values())
        for (const path of [files.console, files.log])
          await consoles.trim(path).catch((error: unknown) => {
            log.warn({ path, error: describeError(error) }, "a console file could not be cut");
          });
    }
  }

  void sweep();
  return {
    watch,
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
