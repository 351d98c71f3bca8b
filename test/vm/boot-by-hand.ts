import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Secret } from "../../src/base/secret.ts";
import type { BootImage } from "../../src/domain/images.ts";
import type { RunnerSettings } from "../../src/domain/pool.ts";
import { type ContainersBootData, renderBootData } from "../../src/guest/boot.ts";
import { openImageDisks } from "../../src/vm/local/image-disks.ts";
import { makeScratchDisk } from "../../src/vm/local/machine-directory.ts";
import { tscKhz } from "../../src/vm/qemu/accelerator.ts";
import { architectures, qemuArguments, smokeArguments } from "../../src/vm/qemu/arguments.ts";

/**
 * An image booted by hand: QEMU under emulation with the driver's own command line, but without the driver, so that times
 * are those of the image alone.
 */
export interface HandMachine extends AsyncDisposable {
  /** Where the guest's relay must listen. */
  readonly relaySocket: string;
  /** Starts QEMU; returns the moment, of `performance.now()`. */
  start(): number;
  /** Resolves with the moment at which QEMU has ended. */
  readonly ended: Promise<number>;
  console(): Promise<string>;
}

/** What is waited for of a machine that runs; rejects with its console when it ends first. */
export async function beforeItsEnd<T>(
  machine: { readonly ended: Promise<unknown>; console(): Promise<string> },
  hoped: Promise<T>,
): Promise<T> {
  const died = machine.ended.then(async () => Promise.reject(new Error(await machine.console())));
  return await Promise.race([hoped, died]);
}

export const HAND_MACHINE_ID = "fr-abcdefgh";

const DEADLINE_MS = 120_000;

export function handBootData(
  more: {
    proxy?: string;
    nowMs?: number;
    logLimitKib?: number;
    containers?: ContainersBootData;
    runnerSettings?: RunnerSettings;
  } = {},
): string {
  return renderBootData({
    machineId: HAND_MACHINE_ID,
    token: new Secret("machine-token"),
    nowMs: more.nowMs ?? Date.now(),
    executor: more.containers ? "docker" : "shell",
    containers: more.containers,
    proxy: more.proxy,
    runnerSettings: more.runnerSettings,
    logLimitKib: more.logLimitKib ?? 4_096,
  });
}

/** With `bare` only the kernel and the initramfs are booted, which powers off as soon as its init runs. */
export async function createHandMachine(
  image: BootImage,
  options: {
    bare?: boolean;
    cpus?: number;
    memoryMib?: number;
    imageDisks?: readonly string[];
    deadlineMs?: number;
  } = {},
): Promise<HandMachine> {
  const architecture = architectures[image.architecture];
  if (!architecture) throw new Error(`no machine for ${image.architecture}`);
  const directory = await mkdtemp(join(tmpdir(), "fr-hand-"));
  await mkdir(join(directory, "run"));
  const size = { cpus: options.cpus ?? 1, memoryMib: options.memoryMib ?? 1024, diskMib: 4096 };
  const signal = AbortSignal.timeout(options.deadlineMs ?? DEADLINE_MS);
  const scratch = {
    path: join(directory, "scratch.img"),
    sizeMib: size.diskMib,
    mkfs: "/sbin/mkfs.ext4",
    minFreeMib: 0,
  };
  if (!options.bare) await makeScratchDisk(scratch, signal);
  const plan = {
    spec: { id: HAND_MACHINE_ID, size, image, imageDisks: options.imageDisks ?? [] },
    architecture,
    accelerator: "tcg" as const,
    tscKhz: await tscKhz(),
    socat: "/usr/bin/socat",
  };
  const args = options.bare ? smokeArguments(plan) : qemuArguments(plan);
  const disks = await openImageDisks(plan.spec);
  const ended = Promise.withResolvers<number>();
  let child: ChildProcess | undefined;
  let output = "";

  function start(): number {
    const startedAt = performance.now();
    child = spawn(architecture?.program ?? "", args, {
      cwd: directory,
      signal,
      killSignal: "SIGKILL",
      stdio: ["ignore", "pipe", "pipe", ...disks.open.map(({ fd }) => fd)],
    });
    for (const stream of [child.stdout, child.stderr])
      stream?.setEncoding("utf8").on("data", (text: string) => {
        output += text;
      });
    child.on("error", ended.reject);
    child.on("exit", () => ended.resolve(performance.now()));
    return startedAt;
  }

  return {
    relaySocket: join(directory, "relay.sock"),
    start,
    ended: ended.promise,
    console: async () => output + (await readFile(join(directory, "console.log"), "utf8").catch(() => "")),
    [Symbol.asyncDispose]: async () => {
      ended.promise.catch(() => {});
      child?.kill("SIGKILL");
      if (child && child.exitCode === null && child.signalCode === null) await ended.promise;
      await disks[Symbol.asyncDispose]();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** From the start of QEMU to its end, for a kernel and initramfs that do nothing more. */
export async function measureBareBootMs(image: BootImage): Promise<number> {
  await using machine = await createHandMachine(image, { bare: true });
  const startedAt = machine.start();
  return (await machine.ended) - startedAt;
}

/** From the start of QEMU until the guest's first request is at the relay, and until its runner asks for a job. */
export async function measureGuestBootMs(image: BootImage): Promise<{ relayMs: number; runnerMs: number }> {
  await using machine = await createHandMachine(image);
  const relay = Promise.withResolvers<number>();
  const runner = Promise.withResolvers<number>();
  const server = createServer((request, response) => {
    request.resume();
    if (request.url === "/firerunner/boot") {
      relay.resolve(performance.now());
      response.end(handBootData());
    } else if (request.url === "/api/v4/jobs/request") {
      runner.resolve(performance.now());
      response.writeHead(204).end();
    }
  });
  await new Promise<void>((resolve) => server.listen(machine.relaySocket, resolve));
  try {
    const startedAt = machine.start();
    const relayMs = (await beforeItsEnd(machine, relay.promise)) - startedAt;
    const runnerMs = (await beforeItsEnd(machine, runner.promise)) - startedAt;
    return { relayMs, runnerMs };
  } finally {
    server.closeAllConnections();
    server.close();
  }
}
