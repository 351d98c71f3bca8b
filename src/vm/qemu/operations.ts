import type { Clock } from "../../base/clock.ts";
import { withDeadline } from "../../base/deadline.ts";
import { createKeyedMutex } from "../../base/keyed-mutex.ts";
import type { VmConfig } from "../config.ts";
import type { MachineSpec } from "../driver.ts";
import { VmError } from "../errors.ts";
import { checkSpec } from "../spec.ts";
import type { AcceleratorOptions } from "./accelerator.ts";
import { readExit } from "./exit.ts";
import type { MachineFiles } from "./files.ts";
import type { Identity } from "./identity.ts";
import type { MachineDirectory } from "./machine-directory.ts";
import type { RunningMachines } from "./machines.ts";
import { examineHost } from "./probe.ts";
import { startMachine } from "./start.ts";

const CLEAN_UP_MS = 20_000;

export interface OperationsDeps {
  readonly settings: VmConfig;
  readonly accelerator: () => Promise<AcceleratorOptions>;
  readonly identity: Identity;
  readonly workplace: MachineDirectory;
  readonly running: RunningMachines;
  readonly clock: Clock;
  filesOf(id: string): MachineFiles;
}

/** Create and destroy: one at a time for each machine, a destroy stopping the create before it. */
export interface Operations {
  create(spec: MachineSpec, signal: AbortSignal): Promise<void>;
  destroy(id: string, signal: AbortSignal): Promise<void>;
  /** When the create under way began (epoch ms), so that nobody takes its machine for a lost one. */
  creatingSince(id: string): number | undefined;
}

export function createOperations(deps: OperationsDeps): Operations {
  const { settings, identity, workplace, running, clock, filesOf } = deps;
  const turns = createKeyedMutex();
  const creating = new Map<string, { readonly abort: AbortController; readonly startedAt: number }>();

  async function make(spec: MachineSpec, signal: AbortSignal): Promise<void> {
    const files = filesOf(spec.id);
    const found = (await identity.hypervisors()).get(spec.id);
    if (found) return void (await running.watch(spec.id, files, found));
    await running.settled(spec.id);
    // It has run, and ended: a machine is never started twice.
    if ((await readExit(files)) !== undefined) return;
    const host = await examineHost(spec.image, await deps.accelerator(), signal);
    const start = { spec, files, ...host, minFreeDiskMib: settings.minFreeDisk };
    try {
      const { process, qmp } = await startMachine(start, workplace, clock, signal);
      await running.watch(spec.id, files, process, qmp);
    } catch (error) {
      const user = await workplace.userOf(files);
      await withDeadline(clock, { limitMs: CLEAN_UP_MS }, (late) => identity.killAll(files, user, late));
      await workplace.clear(files);
      throw error;
    }
  }

  async function create(spec: MachineSpec, signal: AbortSignal): Promise<void> {
    checkSpec(spec);
    await turns.run(spec.id, async () => {
      const abort = new AbortController();
      const either = AbortSignal.any([signal, abort.signal]);
      creating.set(spec.id, { abort, startedAt: clock.now() });
      try {
        either.throwIfAborted();
        await make(spec, either);
      } catch (cause) {
        if (cause instanceof VmError && !either.aborted) throw cause;
        const message = `creating machine ${spec.id} was stopped`;
        throw new VmError("vm_create_failed", message, { cause, retryable: true });
      } finally {
        creating.delete(spec.id);
      }
    });
  }

  async function destroy(id: string, signal: AbortSignal): Promise<void> {
    const files = filesOf(id);
    creating.get(id)?.abort.abort();
    await turns.run(id, async () => {
      signal.throwIfAborted();
      running.forget(id);
      await identity.killAll(files, await workplace.userOf(files), signal);
      await workplace.remove(files).catch((cause: unknown) => {
        const message = `the directory ${files.directory} cannot be removed`;
        throw new VmError("vm_destroy_failed", message, { cause, retryable: true });
      });
    });
  }

  return { create, destroy, creatingSince: (id) => creating.get(id)?.startedAt };
}
