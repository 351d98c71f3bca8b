/** FireRunner without a hypervisor in a process of its own, which tells its parent of machines and of what it costs. */
import { performance } from "node:perf_hooks";
import { serveParent } from "./child.ts";
import { type BenchComponents, benchImage, type ComponentsOptions, createComponents } from "./components.ts";
import { createSampler } from "./sampler.ts";

const POLL_MS = 1;

/** A machine has been started: somebody has to play its guest. */
export interface MachineStarted {
  readonly machineId: string;
  readonly socketPath: string;
}

export interface FirstRound {
  /** From the start of the process until the first round had been planned and begun. */
  readonly firstRoundMs: number;
  /** The part of it that is not Node.js loading the program. */
  readonly ownMs: number;
  /** From the start of the process until the relay listens for every machine that was found. */
  readonly allAdoptedMs: number;
}

interface StartOptions extends ComponentsOptions {
  /** Machines that run already: left by the process before. */
  readonly running: readonly string[];
  /** Whether jobs are claimed. */
  readonly claims: boolean;
}

let built: BenchComponents | undefined;
const sample = createSampler();

async function start(options: StartOptions): Promise<FirstRound> {
  const calledAt = performance.now();
  built = await createComponents(options);
  const { components, host, relaySocket } = built;
  for (const id of options.running) host.start({ id, size, image: benchImage });
  host.onCreate = ({ spec }) => tell({ machineId: spec.id, socketPath: relaySocket(spec.id) });
  let adopted = 0;
  components.store.onEvent(({ kind }) => {
    if (kind === "machine:adopted") adopted += 1;
  });
  components.scheduler.start();
  if (options.claims) components.claimer.start();
  await until(() => components.scheduler.status().lastRound !== undefined);
  const firstRoundMs = performance.now();
  await until(() => adopted >= options.running.length);
  return { firstRoundMs, ownMs: firstRoundMs - calledAt, allAdoptedMs: performance.now() };
}

const size = { cpus: 1, memoryMib: 1_024, diskMib: 1_024 };

async function until(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) await new Promise((resolve) => setTimeout(resolve, POLL_MS));
}

/** Lets go of garbage, where the process was started so that it can be told to. */
function collect(_: undefined): void {
  globalThis.gc?.();
}

const handlers = {
  start,
  collect,
  sample: (_: undefined) => sample(),
  metricsUrl: (_: undefined) => built?.metricsUrl,
};
export type ManagerHandlers = typeof handlers;

const tell = serveParent<MachineStarted>(handlers, async () => await built?.stop());
