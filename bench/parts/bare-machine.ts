/** The image of a pool booted by hand: the same hypervisor with the same arguments, and a few lines in the relay's place. */
import type { ChildProcess } from "node:child_process";
import { chmod, chown, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { newMachineId } from "../../src/base/ids.ts";
import { Secret } from "../../src/base/secret.ts";
import type { Size } from "../../src/domain/size.ts";
import { renderBootData } from "../../src/guest/boot.ts";
import { createImageStore, type ResolvedImage } from "../../src/image/store.ts";
import { type MachineFiles, machineFiles, makeScratchDisk } from "../../src/vm/local/machine-directory.ts";
import { launch, unprivileged } from "../../src/vm/local/processes.ts";
import { findPrograms, tscKhz } from "../../src/vm/qemu/accelerator.ts";
import { architectures, qemuArguments, qemuFiles, smokeArguments } from "../../src/vm/qemu/arguments.ts";
import { testImageDirectory } from "../../test/harness/image.ts";
import type { BenchContext } from "../core/figure.ts";
import { createStage } from "./stage.ts";

const LIMIT_MS = 90_000;
/** Of no machine: below all that FireRunner claims. */
const nobody = 1_899_999_999;

export const benchSize: Size = { cpus: 1, memoryMib: 512, diskMib: 2_048 };

export async function resolveBenchImage(): Promise<ResolvedImage> {
  return await createImageStore({ directory: testImageDirectory() }).resolve("base");
}

/** Milliseconds from the start of the hypervisor. */
interface BareBoot {
  /** Until the guest asked for its boot data. */
  readonly heardMs: number;
  /** Until the first line of the script spoke; undefined when there was no job. */
  readonly scriptMs: number | undefined;
}

/** Boots to the first program of the initramfs and off again. */
export async function bootSmoke(context: BenchContext, image: ResolvedImage): Promise<number> {
  const { machines, files } = await makePlace(context, "fr-aaaaaaaa");
  const { plan } = await planFor(image, "fr-aaaaaaaa");
  const startedAt = performance.now();
  const machine = await start(smokeArguments(plan), files);
  context.defer(() => machine.kill("SIGKILL"));
  await exited(machine);
  const tookMs = performance.now() - startedAt;
  await rm(machines, { recursive: true, force: true });
  if (machine.exitCode !== 0) throw new Error(`the bare boot ended with ${machine.exitCode}`);
  return tookMs;
}

export interface BareMachine {
  /** Boots until the runner inside has begun the script of its payload, or without one until the guest is heard; then ends it. */
  boot(): Promise<BareBoot>;
}

/** Makes everything ready that a boot needs, the disk included. */
export async function prepareBare(
  context: BenchContext,
  image: ResolvedImage,
  payload: string | undefined,
): Promise<BareMachine> {
  const id = newMachineId();
  const { machines, files } = await makePlace(context, id);
  const { plan, mkfs } = await planFor(image, id);
  const disk = { path: files.scratch, sizeMib: benchSize.diskMib, mkfs, minFreeMib: 0 };
  await makeScratchDisk(disk, AbortSignal.timeout(LIMIT_MS));
  await writeFile(files.console, "");

  const told = { machineId: id, token: new Secret("bare"), nowMs: Date.now(), logLimitKib: 4_096 };
  const stage = createStage(renderBootData({ ...told, executor: "shell" }), payload);
  const server = createServer(stage.serve);
  await new Promise<void>((resolve) => server.listen(files.relay, resolve));
  context.defer(() => server.close());
  if (isRoot())
    for (const path of [files.directory, files.run, files.scratch, files.console, files.relay])
      await chown(path, nobody, nobody);

  async function boot(): Promise<BareBoot> {
    const startedAt = performance.now();
    const machine = await start(qemuArguments(plan), files);
    context.defer(() => machine.kill("SIGKILL"));
    try {
      const limit = AbortSignal.timeout(LIMIT_MS);
      const heardMs = (await within(stage.heard, limit)) - startedAt;
      const scriptMs = payload === undefined ? undefined : (await within(stage.spoken, limit)) - startedAt;
      return { heardMs, scriptMs };
    } finally {
      machine.kill("SIGKILL");
      await exited(machine);
      server.closeAllConnections();
      server.close();
      await rm(machines, { recursive: true, force: true, maxRetries: 3 });
    }
  }

  return { boot };
}

/** A machine's directory with nothing in it yet. */
async function makePlace(context: BenchContext, id: string) {
  const machines = await mkdtemp(join(tmpdir(), "fr-bare-"));
  await chmod(machines, 0o711);
  context.defer(() => rm(machines, { recursive: true, force: true, maxRetries: 3 }));
  const files = machineFiles(machines, id, qemuFiles);
  await mkdir(files.run, { recursive: true });
  return { machines, files };
}

async function planFor(image: ResolvedImage, id: string) {
  const architecture = amd64();
  const { socat, mkfs } = await findPrograms(architecture);
  const spec = { id, size: benchSize, image };
  return {
    mkfs,
    plan: { spec, architecture, accelerator: "tcg", tscKhz: await tscKhz(), socat } as const,
  };
}

async function start(args: readonly string[], files: MachineFiles): Promise<ChildProcess> {
  const programs = await findPrograms(amd64());
  const user = isRoot() ? { uid: nobody, deviceGid: undefined } : undefined;
  return await launch(unprivileged(programs, user, benchSize.diskMib, [programs.qemu, ...args]), files);
}

function exited(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => child.once("exit", () => resolve()));
}

function within<T>(promise: Promise<T>, limit: AbortSignal): Promise<T> {
  const over = new Promise<never>((_, reject) =>
    limit.addEventListener("abort", () => reject(new Error("the machine was not heard in time"))),
  );
  return Promise.race([promise, over]);
}

const isRoot = () => process.getuid?.() === 0;

function amd64() {
  const architecture = architectures["amd64"];
  if (!architecture) throw new Error("amd64 is not known");
  return architecture;
}
