/**
 * Creating and destroying machines, one thing at a time for each. Each step of a create may be the last one before this program dies:
 * until the process runs there is only a directory, which `prepare` empties on the next try; from then on the process itself says whose
 * it is.
 */
import type { ChildProcess } from "node:child_process";
import type { Clock } from "../../base/clock.ts";
import { startDeadline, withDeadline } from "../../base/deadline.ts";
import { systemCode } from "../../base/errors.ts";
import { createKeyedMutex } from "../../base/keyed-mutex.ts";
import type { MachineSpec } from "../driver.ts";
import { VmError } from "../errors.ts";
import { checkImageDisks, checkSpec } from "../spec.ts";
import { lastLines } from "./console-file.ts";
import type { Control, Hypervisor, HypervisorHost } from "./hypervisor.ts";
import { openImageDisks } from "./image-disks.ts";
import { type MachineDirectory, type MachineFiles, makeScratchDisk, readExit } from "./machine-directory.ts";
import type { MachineProcesses } from "./machine-processes.ts";
import { launch, type ProcessId, startTicksOf, unprivileged } from "./processes.ts";
import type { RunningMachines } from "./running-machines.ts";
import type { MachineUsers } from "./users.ts";

const CLEAN_UP_MS = 20_000;
const START_MS = 30_000;
const TRY_MS = 15;

export interface OperationsDeps<Host extends HypervisorHost> {
  readonly hypervisor: Hypervisor<Host>;
  readonly users: MachineUsers;
  readonly processes: MachineProcesses;
  readonly directory: MachineDirectory;
  readonly running: RunningMachines;
  readonly clock: Clock;
  readonly minFreeDiskMib: number;
  /** What can give way does, where less is free than a machine must leave. */
  makeRoom(): Promise<void>;
  filesOf(id: string): MachineFiles;
}

/** A destroy stops the create before it. */
export interface Operations {
  create(spec: MachineSpec, signal: AbortSignal): Promise<void>;
  destroy(id: string, signal: AbortSignal): Promise<void>;
  /** When the create under way began (epoch ms), so that nobody takes its machine for a lost one. */
  creatingSince(id: string): number | undefined;
}

export function createOperations<Host extends HypervisorHost>(deps: OperationsDeps<Host>): Operations {
  const { hypervisor, users, processes, directory, running, clock, filesOf } = deps;
  const machines = createKeyedMutex();
  const creating = new Map<string, { readonly abort: AbortController; readonly startedAt: number }>();

  async function make(spec: MachineSpec, signal: AbortSignal): Promise<void> {
    const files = filesOf(spec.id);
    const found = (await processes.hypervisors()).get(spec.id);
    if (found) return void (await running.watch(spec.id, files, found));
    await running.settled(spec.id);
    // It has run, and ended: a machine is never started twice.
    if ((await readExit(files)) !== undefined) return;
    const host = await hypervisor.examine(spec.image, (await users.known()).forTrials, signal);
    try {
      const { process, control } = await startMachine(deps, { spec, files, host }, signal);
      await running.watch(spec.id, files, process, control);
    } catch (error) {
      const user = await directory.userOf(files);
      await withDeadline(clock, { limitMs: CLEAN_UP_MS }, (late) => processes.killAll(files, user, late));
      await directory.clear(files);
      throw error;
    }
  }

  async function create(spec: MachineSpec, signal: AbortSignal): Promise<void> {
    checkSpec(spec);
    checkImageDisks(hypervisor.name, spec, hypervisor.mostImageDisks);
    await machines.run(spec.id, async () => {
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
    await machines.run(id, async () => {
      signal.throwIfAborted();
      running.forget(id);
      await processes.killAll(files, await directory.userOf(files), signal);
      await directory.remove(files).catch((cause: unknown) => {
        const message = `the directory ${files.directory} cannot be removed`;
        throw new VmError("vm_destroy_failed", message, { cause, retryable: true });
      });
    });
  }

  return { create, destroy, creatingSince: (id) => creating.get(id)?.startedAt };
}

interface Start<Host extends HypervisorHost> {
  readonly spec: MachineSpec;
  readonly files: MachineFiles;
  readonly host: Host;
}

interface Started {
  readonly process: ProcessId;
  readonly control: Control;
}

/** From nothing to a running hypervisor. */
async function startMachine<Host extends HypervisorHost>(
  deps: OperationsDeps<Host>,
  start: Start<Host>,
  signal: AbortSignal,
): Promise<Started> {
  const { spec, files, host } = start;
  try {
    const uid = await furnish(deps, start, signal);
    const command = await deps.hypervisor.command(spec, host);
    const user = uid === undefined ? undefined : { uid, deviceGid: host.deviceGid };
    signal.throwIfAborted();
    await using disks = await openImageDisks(spec);
    const whole = unprivileged(host.programs, user, spec.size.diskMib, command);
    const child = await launch(whole, files, disks.open);
    return await whenAnswering(deps, child, files, signal);
  } catch (error) {
    if (error instanceof VmError) throw error;
    throw startError(spec, files, error);
  }
}

/** Makes the machine's directory and disk. Returns its user, when it has one of its own. */
async function furnish<Host extends HypervisorHost>(
  { directory, minFreeDiskMib, makeRoom }: OperationsDeps<Host>,
  { files, host, spec }: Start<Host>,
  signal: AbortSignal,
): Promise<number | undefined> {
  const uid = await directory.prepare(files);
  await makeRoom();
  signal.throwIfAborted();
  const disk = { path: files.scratch, sizeMib: spec.size.diskMib, mkfs: host.programs.mkfs };
  await makeScratchDisk({ ...disk, minFreeMib: minFreeDiskMib }, signal);
  await directory.giveTo(files.scratch, uid);
  return uid;
}

/** A hypervisor that answers has accepted all of its arguments and opened all of its files. */
async function whenAnswering<Host extends HypervisorHost>(
  { clock, hypervisor }: OperationsDeps<Host>,
  child: ChildProcess,
  files: MachineFiles,
  signal: AbortSignal,
): Promise<Started> {
  const { pid } = child;
  const startTicks = pid === undefined ? undefined : await startTicksOf(pid);
  const deadline = startDeadline(clock, START_MS, signal);
  try {
    while (
      pid !== undefined &&
      startTicks !== undefined &&
      child.exitCode === null &&
      child.signalCode === null
    ) {
      signal.throwIfAborted();
      if (deadline.isOver()) throw refused(files, "did not answer in time");
      const control = await hypervisor.connect(files.control, deadline.signal).catch(() => undefined);
      if (control) return { process: { pid, startTicks }, control };
      await clock.sleep(TRY_MS, deadline.signal).catch(() => {});
    }
  } finally {
    deadline.clear();
  }
  throw refused(files, "ended at once", await lastLines(files.log, 3));
}

function refused(files: MachineFiles, what: string, said = ""): VmError {
  const reason = said === "" ? "" : `: ${said}`;
  return new VmError("vm_create_failed", `the hypervisor of ${files.directory} ${what}${reason}`, {
    retryable: true,
  });
}

function startError(spec: MachineSpec, files: MachineFiles, cause: unknown): VmError {
  if (["ENOSPC", "EDQUOT"].includes(systemCode(cause) ?? ""))
    return new VmError("vm_disk_full", `no room for machine ${spec.id} in ${files.directory}`, {
      cause,
      hint: "free some disk space there",
      retryable: true,
    });
  return new VmError("vm_create_failed", `starting machine ${spec.id} failed`, { cause, retryable: true });
}
