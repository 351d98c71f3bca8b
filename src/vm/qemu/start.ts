/**
 * From nothing to a running hypervisor. Each step may be the last one before this program dies: until the process runs there
 * is only a directory, which `prepare` empties on the next try; from then on the process itself says whose it is.
 */

import type { ChildProcess } from "node:child_process";
import type { Clock } from "../../base/clock.ts";
import { startDeadline } from "../../base/deadline.ts";
import { systemCode } from "../../base/errors.ts";
import type { MachineSpec } from "../driver.ts";
import { VmError } from "../errors.ts";
import { type ProcessId, startTicksOf } from "../local/processes.ts";
import { makeScratchDisk } from "../local/scratch-disk.ts";
import type { Choice } from "./accelerator.ts";
import type { Architecture } from "./architectures.ts";
import { qemuArguments } from "./arguments.ts";
import { lastLines } from "./console.ts";
import type { MachineFiles } from "./files.ts";
import { type Programs, tscKhz } from "./host-facts.ts";
import { launch, unprivileged } from "./launch.ts";
import type { MachineDirectory } from "./machine-directory.ts";
import { connectQmp, type QmpClient } from "./qmp.ts";

const START_MS = 30_000;
const TRY_MS = 15;

export interface Start {
  readonly spec: MachineSpec;
  readonly files: MachineFiles;
  readonly architecture: Architecture;
  readonly programs: Programs;
  readonly choice: Choice;
  readonly minFreeDiskMib: number;
}

export interface Started {
  readonly process: ProcessId;
  readonly qmp: QmpClient;
}

export async function startMachine(
  start: Start,
  workplace: MachineDirectory,
  clock: Clock,
  signal: AbortSignal,
): Promise<Started> {
  try {
    const uid = await furnish(start, workplace, signal);
    const { choice, programs, files, spec, architecture } = start;
    const { accelerator, kvmGid } = choice;
    const plan = { spec, architecture, accelerator, tscKhz: await tscKhz(), socat: programs.socat };
    const user = uid === undefined ? undefined : { uid, kvmGid };
    signal.throwIfAborted();
    const child = await launch(unprivileged(programs, user, spec.size.diskMib, qemuArguments(plan)), files);
    return await whenAnswering(child, files, clock, signal);
  } catch (error) {
    if (error instanceof VmError) throw error;
    throw startError(start, error);
  }
}

async function furnish(
  start: Start,
  workplace: MachineDirectory,
  signal: AbortSignal,
): Promise<number | undefined> {
  const { files, programs, spec } = start;
  const uid = await workplace.prepare(files);
  signal.throwIfAborted();
  const disk = { path: files.scratch, sizeMib: spec.size.diskMib, mkfs: programs.mkfs };
  await makeScratchDisk({ ...disk, minFreeMib: start.minFreeDiskMib }, signal);
  await workplace.hand(files.scratch, uid);
  return uid;
}

/** A hypervisor that answers has accepted all of its arguments and opened all of its files. */
async function whenAnswering(
  child: ChildProcess,
  files: MachineFiles,
  clock: Clock,
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
      const qmp = await connectQmp(files.qmp, deadline.signal).catch(() => undefined);
      if (qmp) return { process: { pid, startTicks }, qmp };
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

function startError({ spec, files }: Start, cause: unknown): VmError {
  if (["ENOSPC", "EDQUOT"].includes(systemCode(cause) ?? ""))
    return new VmError("vm_disk_full", `no room for machine ${spec.id} in ${files.directory}`, {
      cause,
      hint: "free some disk space there",
      retryable: true,
    });
  return new VmError("vm_create_failed", `starting machine ${spec.id} failed`, { cause, retryable: true });
}
