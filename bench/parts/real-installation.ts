import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { type Clock, systemClock } from "../../src/base/clock.ts";
import type { Machine } from "../../src/store/store.ts";
import type { Daemon } from "../../test/harness/daemon.ts";
import {
  createInstallation,
  type Installation,
  type InstallationOptions,
} from "../../test/harness/installation.ts";
import type { BenchContext } from "../core/figure.ts";

/** Counts in parts of milliseconds, so that short waits do not all look alike. */
export const fineClock: Clock = { ...systemClock, now: () => performance.timeOrigin + performance.now() };

export interface RealInstallation {
  readonly here: Installation;
  readonly daemon: Daemon;
  /** The machine of a job, once it is destroyed. */
  goneMachine(jobId: number): Promise<Machine & { readonly goneAt: number }>;
}

/** The program itself with real machines of one CPU and 512 MiB, and a stand-in GitLab. */
export async function createRealInstallation(
  context: BenchContext,
  options: InstallationOptions = {},
): Promise<RealInstallation> {
  const here = await createInstallation({ gitlab: { clock: fineClock }, ...options });
  context.defer(() => here.close());
  const daemon = await here.start();
  context.defer(() => daemon.stop());
  return {
    here,
    daemon,
    async goneMachine(jobId) {
      for (;;) {
        const machine = (await daemon.machines()).find((each) => each.jobId === jobId);
        if (machine?.goneAt != null) return { ...machine, goneAt: machine.goneAt };
        await sleep(50);
      }
    },
  };
}
