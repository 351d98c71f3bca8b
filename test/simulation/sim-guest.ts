/** The inside of a machine: init and the runner, which works on one job and powers off. Or does not. */
import type { Clock } from "../../src/base/clock.ts";
import type { ExitKind } from "../../src/vm/driver.ts";
import type { FakeGuest } from "../../src/vm/fake/host.ts";
import type { Random } from "./random.ts";
import type { RelayAnswer, SimRelay } from "./sim-relay.ts";

/** How a machine will do. The faults happen at the named phase. */
export interface Fate {
  readonly fault: "none" | "dies" | "hangs" | "leaves";
  readonly phase: "boot" | "job";
  readonly exit: ExitKind;
  readonly result: "success" | "failed";
  /** Silent jobs write nothing for as long as they run. */
  readonly isSilent: boolean;
  readonly chunks: number;
}

export interface GuestWorld {
  readonly clock: Clock;
  readonly random: Random;
  /** One exchange with the FireRunner that runs now; throws when none listens or the connection breaks. */
  exchange(machineId: string, talk: (relay: SimRelay) => Promise<RelayAnswer>): Promise<RelayAnswer>;
  onPayload(machineId: string, jobId: number): void;
}

const RETRY_MS = 3_000;
/** A real runner sends a sign of life every 30 s when its job is silent. */
const TOUCH_MS = 10_000;

export function outputOf(jobId: number, chunk: number): string {
  return `[job ${jobId} line ${chunk}]\n`;
}

export function rollFate(random: Random, faultChance: number): Fate {
  const fault = random.chance(faultChance)
    ? random.pick(["dies", "hangs", "leaves", "dies"] as const)
    : "none";
  return {
    fault,
    phase: random.pick(["boot", "job"]),
    exit: random.pick(["crash", "killed", "lost"]),
    result: random.chance(0.7) ? "success" : "failed",
    isSilent: random.chance(0.3),
    chunks: random.between(1, 8),
  };
}

export async function playGuest(world: GuestWorld, guest: FakeGuest, fate: Fate): Promise<void> {
  const { clock, random } = world;
  const { signal } = guest;
  const machineId = guest.spec.id;

  async function meetFault(phase: Fate["phase"]): Promise<void> {
    if (fate.fault === "none" || fate.phase !== phase) return;
    await clock.sleep(random.between(0, 4_000), signal);
    if (fate.fault === "hangs") await clock.sleep(10 ** 9, signal);
    guest.end(fate.fault === "leaves" ? "orderly" : fate.exit);
    signal.throwIfAborted();
  }

  /** Asks until something other than "later" comes back, as the runner does. */
  async function insist(talk: (relay: SimRelay) => Promise<RelayAnswer>): Promise<RelayAnswer> {
    for (;;) {
      signal.throwIfAborted();
      const answer = await world.exchange(machineId, talk).catch((): RelayAnswer => ({ kind: "later" }));
      signal.throwIfAborted();
      if (answer.kind !== "later") return answer;
      await clock.sleep(RETRY_MS, signal);
    }
  }

  async function getJob(): Promise<number> {
    for (;;) {
      const answer = await insist((relay) => relay.requestJob(machineId));
      if (answer.kind === "job") return answer.jobId;
      await clock.sleep(RETRY_MS, signal);
    }
  }

  /** True when GitLab ended the job meanwhile. */
  async function runScript(jobId: number): Promise<boolean> {
    if (fate.isSilent) await clock.sleep(TOUCH_MS, signal);
    let sentBytes = 0;
    for (let chunk = 0; chunk < fate.chunks; chunk++) {
      await clock.sleep(random.between(100, 3_000), signal);
      const startBytes = sentBytes;
      const bytes = Buffer.from(outputOf(jobId, chunk));
      guest.print(`runner: wrote ${bytes.length} bytes\n`);
      const answer = await insist((relay) => relay.appendTrace(machineId, startBytes, bytes));
      if (answer.kind === "over") return true;
      sentBytes += bytes.length;
    }
    return false;
  }

  try {
    guest.print("booting\n");
    await meetFault("boot");
    await clock.sleep(random.between(200, 3_000), signal);
    const jobId = await getJob();
    world.onPayload(machineId, jobId);
    await meetFault("job");
    if (!(await runScript(jobId))) await insist((relay) => relay.finish(machineId, fate.result));
    guest.end("orderly");
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
